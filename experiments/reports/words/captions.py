"""What to see in a figure of a report, by the figure's name."""

CAPTIONS = {
    "aggregate": "Images decoded from draws of q(z | x) of random training images.",
    "columns": "Norms of the columns of W, sorted: median and central 95% of the posterior. "
    "Columns near zero are switched off; the others count the dimensions of the data.",
    "columns_of_W": "The mean and the columns of W as images: red above zero, blue below. "
    "Each latent adds its column to the mean image.",
    "completions": "Images x, their observed pixels, and E[x | z] at the mean of "
    "q(z | observed pixels).",
    "components": "The mean image and the principal components: red above zero, blue below.",
    "encodings": "Each point is the encoding of one datum, coloured by class where there are "
    "classes. Clusters show what the latents separate.",
    "gap_frozen": "What each guide loses on the same p, against log p(x) where it is known and "
    "else against the best guide. No diagonal Gaussian can end left of a dashed line.",
    "gap_learned": "What each guide loses with the p learned together with it, against log p(x) "
    "where it is known and else against the best guide.",
    "gaps": "log p(x) - ELBO, split into the part due to the family (approximation) and the part "
    "due to the encoder (amortisation). ± is the standard error over the data.",
    "groups": "Each row keeps the groups above it at the means of q and draws its own and all "
    "finer ones. What does not change along a row was decided by the groups above.",
    "groups_kl": "KL of each group of latents, coarsest first. A group near zero is not used.",
    "interpolation": "Images decoded between the encodings of two images: along the straight "
    "line, and along an arc (spherical).",
    "khat": "The tail index k-hat of the importance weights of each datum. "
    "To the right of 0.7 (dashed) an importance-weighted estimate is not reliable.",
    "latent_grid": "The decoder's means over a grid of z at quantiles of the prior. "
    "Neighbours should look alike.",
    "loss": "The loss at every step, and its mean over each epoch. "
    "If it still falls at the end, train for longer.",
    "ranks": "Ranks of the true latent among draws of q; they are uniform (dashed) if q is right. "
    "Peaks at both ends: q is too narrow. A hump: q is too wide. More at one end: q is biased.",
    "reconstructions": "Images x, and below them E[x | z] at the mean of q(z | x).",
    "replicated": "The first images, and below them the same images simulated by the model.",
    "samples": "Images drawn from the model. At temperatures T below 1 the latents are drawn "
    "closer to the centre of the prior: images become more typical and less diverse.",
    "signal_p": "Size of the decoder's gradient relative to its noise. Below 1, noise dominates.",
    "signal_q": "Size of the guide's gradient relative to its noise. Below 1, noise dominates.",
    "squared_error": "Squared error per test datum against the number of components.",
    "traversals": "In each row one latent goes from -3 to 3 standard deviations of its prior; "
    "the others stay at the mean of q(z | x) of a test image.",
    "worst": "The ten images with the largest k-hat: the guide fits their posteriors worst.",
}


def caption(name: str) -> str:
    """The caption of a figure; its name if it has none."""
    return CAPTIONS.get(name, f"{name.replace('_', ' ')}.")
