"""Wrong answers to the labs, written before the checks were read.

Per check: what a specific hint has to say (a regular expression, settled once the hint was read
and found true), and the answer, as an expression or as the body of the function.
"""

WRONG = {
    "pca": [
        (r"centre|mean", "x.mean(0), torch.linalg.svd(x, full_matrices=False)[2][:latent_dim].mT"),
        (
            r"transpose|column|row|\[D, M\]",
            "x.mean(0), torch.linalg.svd(x - x.mean(0), full_matrices=False)[2][:latent_dim]",
        ),
        (
            r"row|transpose|\bV\b",
            "x.mean(0), torch.linalg.svd(x - x.mean(0))[2][:, :latent_dim]",
        ),
        (r"left singular", "x.mean(0), torch.linalg.svd(x - x.mean(0))[0][:, :latent_dim]"),
        (
            r"least variance",
            "x.mean(0), torch.linalg.eigh(torch.cov(x.T))[1][:, :latent_dim]",
        ),
        (r"`?M`?.*outside|latent_dim", "x.mean(0), svd(x - x.mean(0))[2][:M].mT"),
        (r"mean", "x.mean(), svd(x - x.mean(0))[2][:latent_dim].mT"),
        (
            r"mean.*(pixel|axis|per image|over images)",
            "x.mean(1), svd(x - x.mean(0))[2][:latent_dim].mT",
        ),
        (r"return|two|2 value", "svd(x - x.mean(0))[2][:latent_dim].mT"),
        (r"order", "svd(x - x.mean(0))[2][:latent_dim].mT, x.mean(0)"),
        (
            r"singular value|length",
            "U, S, V = svd(x - x.mean(0))\nreturn x.mean(0), V[:latent_dim].mT * S[:latent_dim]",
        ),
        (
            r"standardi|divide|standard deviation",
            "x.mean(0), svd((x - x.mean(0)) / (x.std(0) + 1e-8))[2][:latent_dim].mT",
        ),
    ],
    "pca_encoder": [
        (r"mean", "x @ components"),
        (r"transpose|\bV\b|fit", "(x - mean) @ components.mT"),
        (r"mean", "(x + mean) @ components"),
        (r"mean.*(given|batch|argument|training)", "(x - x.mean(0)) @ components"),
        (r"mean|order|project", "x @ components - mean @ components.mean()"),
        (r"transpose|\[M, B\]|\[B, M\]", "components.mT @ (x - mean).mT"),
        (r"outside|notebook|argument", "(x_train - mean) @ components"),
        (r"return", "z = (x - mean) @ components\nreturn"),
        (r"sign is wrong", "(mean - x) @ components"),
    ],
    "pca_decoder": [
        (r"mean", "z @ components.mT"),
        (r"sign|minus|subtract", "z @ components.mT - mean"),
        (r"mean.*(after|before|decode|latent|pixel)|fit|sizes", "(z + mean) @ components.mT"),
        (r"transpose|fit", "z @ components + mean"),
        (r"transpose|\[B, D\]", "(components @ z.mT).mT.mT + 0"),
        (r"\[0, 1\]|clip|clamp|sigmoid", "(z @ components.mT + mean).clamp(0, 1)"),
        (r"\[0, 1\]|clip|clamp|sigmoid", "torch.sigmoid(z @ components.mT + mean)"),
        (r"twice|mean", "z @ components.mT + 2 * mean"),
    ],
    "squared_error": [
        (
            r"sum.*pixel|mean.*pixel|averaged over pixel|pixels",
            "(x - reconstruction).square().mean()",
        ),
        (r"average.*images|divide|images", "(x - reconstruction).square().sum()"),
        (r"root|norm", "(x - reconstruction).norm(dim=1).mean()"),
        (r"absolute", "(x - reconstruction).abs().sum(1).mean()"),
        (r"one (value|number)|average.*images", "(x - reconstruction).square().sum(1)"),
        (r"axis|images|pixel", "(x - reconstruction).square().sum(0).mean()"),
        (r"outside|N\b|argument", "(x - reconstruction).square().sum() / N"),
        (r"square.*(sum|differ)|cancel", "(x - reconstruction).sum(1).square().mean()"),
        (r"1/2|half", "0.5 * (x - reconstruction).square().sum(1).mean()"),
        (r"square", "(x - reconstruction).sum(1).mean()"),
        (r"square", "(x.square() - reconstruction.square()).sum(1).mean()"),
        (r"root", "(x - reconstruction).square().sum(1).mean().sqrt()"),
    ],
    "ppca_cost": [
        (
            r"log \|C\| is missing",
            "m, c = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]), x - mu\n"
            "p = c @ W\n"
            "return ((c.square().sum(1) - (p @ m.inverse() * p).sum(1)) / log_variance.ex"
            "p()).mean()",
        ),
        (
            r"logarithm|det",
            "m, c = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]), x - mu\n"
            "p, d = c @ W, len(mu) - W.shape[1]\n"
            "q = ((c.square().sum(1) - (p @ m.inverse() * p).sum(1)) / log_variance.exp()"
            ").mean()\n"
            "return m.det() * log_variance.exp() ** d + q",
        ),
        (
            r"D - M|M x M|determinant",
            "m, c = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]), x - mu\n"
            "p = c @ W\n"
            "q = ((c.square().sum(1) - (p @ m.inverse() * p).sum(1)) / log_variance.exp()"
            ").mean()\n"
            "return m.logdet() + q",
        ),
        (
            r"power of sigma\^2",
            "m, c = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]), x - mu\n"
            "p = c @ W\n"
            "q = ((c.square().sum(1) - (p @ m.inverse() * p).sum(1)) / log_variance.exp()"
            ").mean()\n"
            "return m.logdet() + len(mu) * log_variance + q",
        ),
        (
            r"stands where its logarithm",
            "m, c = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]), x - mu\n"
            "p = c @ W\n"
            "q = ((c.square().sum(1) - (p @ m.inverse() * p).sum(1)) / log_variance.exp()"
            ").mean()\n"
            "return m.logdet() + (len(mu) - W.shape[1]) * log_variance.exp() + q",
        ),
        (
            r"outside|size|D\b|notebook",
            "m, c = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]), x - mu\n"
            "p = c @ W\n"
            "q = ((c.square().sum(1) - (p @ m.inverse() * p).sum(1)) / log_variance.exp()"
            ").mean()\n"
            "return m.logdet() + (D - M) * log_variance + q",
        ),
        (
            r"sigma\^2|variance",
            "m, c = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]), x - mu\n"
            "p, d = c @ W, len(mu) - W.shape[1]\n"
            "q = (c.square().sum(1) - (p @ m.inverse() * p).sum(1)).mean()\n"
            "return m.logdet() + d * log_variance + q",
        ),
        (
            r"mean|average|sum",
            "m, c = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]), x - mu\n"
            "p, d = c @ W, len(mu) - W.shape[1]\n"
            "q = ((c.square().sum(1) - (p @ m.inverse() * p).sum(1)) / log_variance.exp()).sum()\n"
            "return m.logdet() + d * log_variance + q",
        ),
        (
            r"sign|minus|Woodbury",
            "m, c = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]), x - mu\n"
            "p, d = c @ W, len(mu) - W.shape[1]\n"
            "q = ((c.square().sum(1) + (p @ m.inverse() * p).sum(1)) / log_variance.exp()"
            ").mean()\n"
            "return m.logdet() + d * log_variance + q",
        ),
        (
            r"inverse",
            "m, c = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]), x - mu\n"
            "p, d = c @ W, len(mu) - W.shape[1]\n"
            "q = ((c.square().sum(1) - (p @ m * p).sum(1)) / log_variance.exp()).mean()\n"
            "return m.logdet() + d * log_variance + q",
        ),
        (
            r"1/2|half",
            "C = W @ W.mT + log_variance.exp() * torch.eye(len(mu))\n"
            "return -dist.MultivariateNormal(mu, C).log_prob(x).mean() - len(mu) "
            "/ 2 * math.log(2 * math.pi)",
        ),
        (
            r"constant|2 ?pi",
            "C = W @ W.mT + log_variance.exp() * torch.eye(len(mu))\n"
            "return -2 * dist.MultivariateNormal(mu, C).log_prob(x).mean()",
        ),
        (
            r"sign",
            "C = W @ W.mT + log_variance.exp() * torch.eye(len(mu))\n"
            "return 2 * dist.MultivariateNormal(mu, C).log_prob(x).mean() + len(mu) "
            "* math.log(2 * math.pi)",
        ),
        (
            r"centre|mu\b",
            "m = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1])\n"
            "p, d = x @ W, len(mu) - W.shape[1]\n"
            "q = ((x.square().sum(1) - (p @ m.inverse() * p).sum(1)) / log_variance.exp()"
            ").mean()\n"
            "return m.logdet() + d * log_variance + q",
        ),
        (
            r"log_variance|log sigma|exp",
            "C = W @ W.mT + log_variance * torch.eye(len(mu))\n"
            "c = x - mu\n"
            "return torch.logdet(C) + (c @ C.inverse() * c).sum(1).mean()",
        ),
        (
            r"explain|Woodbury|W",
            "m, c = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]), x - mu\n"
            "d = len(mu) - W.shape[1]\n"
            "return m.logdet() + d * log_variance + (c.square().sum(1) / log_variance.exp"
            "()).mean()",
        ),
    ],
    "posterior": [
        (
            r"sigma\^2|covariance",
            "m = torch.linalg.inv(W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]))\n"
            "return (x - mu) @ W @ m, m",
        ),
        (
            r"inverse|inverted|covariance",
            "m = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1])\n"
            "return (x - mu) @ W @ m.inverse(), log_variance.exp() * m",
        ),
        (
            r"misprint|sigma\^-2|covariance",
            "m = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1])\n"
            "return (x - mu) @ W @ m.inverse(), m / log_variance.exp()",
        ),
        (
            r"\bmu\b|centre|mean",
            "m = torch.linalg.inv(W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]))\n"
            "return x @ W @ m, log_variance.exp() * m",
        ),
        (
            r"log_variance|log sigma|exp",
            "m = torch.linalg.inv(W.mT @ W + log_variance * torch.eye(W.shape[1]))\n"
            "return (x - mu) @ W @ m, log_variance * m",
        ),
        (
            r"sigma\^2|least squares|regularis|identity",
            "m = torch.linalg.inv(W.mT @ W)\nreturn (x - mu) @ W @ m, log_variance.exp() * m",
        ),
        (
            r"transpose|\[B, M\]",
            "m = torch.linalg.inv(W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]))\n"
            "return m @ W.mT @ (x - mu).mT, log_variance.exp() * m",
        ),
        (
            r"outside|size|notebook|argument",
            "m = torch.linalg.inv(W.mT @ W + log_variance.exp() * torch.eye(M))\n"
            "return (x - mu) @ W @ m, log_variance.exp() * m",
        ),
        (
            r"square|sigma",
            "s = (log_variance / 2).exp()\n"
            "m = torch.linalg.inv(W.mT @ W + s * torch.eye(W.shape[1]))\n"
            "return (x - mu) @ W @ m, s * m",
        ),
        (
            r"sigma\^2|mean",
            "m = torch.linalg.inv(W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]))\n"
            "return (x - mu) @ W @ m / log_variance.exp(), log_variance.exp() * m",
        ),
        (
            r"return|two|2 value",
            "m = torch.linalg.inv(W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]))\n"
            "return (x - mu) @ W @ m",
        ),
        (
            r"order",
            "m = torch.linalg.inv(W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]))\n"
            "return log_variance.exp() * m, (x - mu) @ W @ m",
        ),
    ],
    "ppca_decoder": [
        (r"\bmu\b|mean", "z @ W.mT"),
        (r"transpose|fit", "z @ W + mu"),
        (r"sign|minus|subtract", "z @ W.mT - mu"),
        (r"random|noise", "z @ W.mT + mu + 0.1 * torch.randn(len(z), len(mu))"),
        (r"\[0, 1\]|sigmoid", "torch.sigmoid(z @ W.mT + mu)"),
        (r"least|pseudo|inverse|\bW\b", "z @ torch.linalg.pinv(W) + mu"),
    ],
    "draw_latents": [
        (r"temperature|\bT\b", "torch.randn(count, latent_dim)"),
        (r"used as variance", "temperature**0.5 * torch.randn(count, latent_dim)"),
        (r"uniform|normal", "temperature * torch.rand(count, latent_dim)"),
        (r"square|variance|T\^2", "temperature**2 * torch.randn(count, latent_dim)"),
        (r"shape|\[count|transpose|order", "temperature * torch.randn(latent_dim, count)"),
        (r"divide|T", "torch.randn(count, latent_dim) / temperature"),
        (
            r"seed|same",
            "torch.manual_seed(0)\nreturn temperature * torch.randn(count, latent_dim)",
        ),
        (r"mean|shift|add|centre", "temperature + torch.randn(count, latent_dim)"),
        (r"outside|latent_dim|shape|size", "temperature * torch.randn(count, M)"),
        (r"same|row|one draw", "temperature * torch.randn(latent_dim).expand(count, latent_dim)"),
    ],
    "log_likelihood": [
        (
            r"standard deviation|variance|sigma",
            "dist.Normal(decoder(z)[:, None], log_variance.exp()).log_prob(x).sum(-1)",
        ),
        (
            r"sum.*pixel|mean.*pixel|pixels",
            "dist.Normal(decoder(z)[:, None], (log_variance / 2).exp()).log_prob(x).mean(-1)",
        ),
        (
            r"pixel|sum|axis|shape",
            "dist.Normal(decoder(z)[:, None], (log_variance / 2).exp()).log_prob(x)",
        ),
        (
            r"shape|transpose|\[K, B\]",
            "dist.Normal(decoder(z)[:, None], (log_variance / 2).exp()).log_prob(x).sum(-1).mT",
        ),
        (
            r"log sigma|log_variance|exp",
            "dist.Normal(decoder(z)[:, None], log_variance.abs() + 1e-3).log_prob(x).sum(-1)",
        ),
        (
            r"constant|2 ?pi|normalis",
            "-((x - decoder(z)[:, None]) ** 2).sum(-1) / (2 * log_variance.exp())",
        ),
        (
            r"squared distance over 2 sigma\^2 counts 2",
            "d = x.shape[-1]\nreturn -d / 2 * (math.log(2 * math.pi) + log_variance) - "
            "((x - decoder(z)[:, None]) ** 2).sum(-1) / log_variance.exp()",
        ),
        (
            r"D\b|pixel|once",
            "return -0.5 * (math.log(2 * math.pi) + log_variance) - "
            "((x - decoder(z)[:, None]) ** 2).sum(-1) / (2 * log_variance.exp())",
        ),
        (
            r"sign",
            "d = x.shape[-1]\nreturn d / 2 * (math.log(2 * math.pi) + log_variance) + "
            "((x - decoder(z)[:, None]) ** 2).sum(-1) / (2 * log_variance.exp())",
        ),
        (
            r"outside|D\b|size",
            "return -D / 2 * (math.log(2 * math.pi) + log_variance) - "
            "((x - decoder(z)[:, None]) ** 2).sum(-1) / (2 * log_variance.exp())",
        ),
        (
            r"3\.14|pi",
            "d = x.shape[-1]\nreturn -d / 2 * (math.log(2 * 3.14) + log_variance) - "
            "((x - decoder(z)[:, None]) ** 2).sum(-1) / (2 * log_variance.exp())",
        ),
        (
            r"axis|unsqueeze|images|fit|size",
            "dist.Normal(decoder(z), (log_variance / 2).exp()).log_prob(x).sum(-1)",
        ),
        (
            r"exp|log",
            "dist.Normal(decoder(z)[:, None], (log_variance / 2).exp()).log_prob(x).sum(-1).exp()",
        ),
    ],
    "monte_carlo_likelihood": [
        (r"log.*mean|Jensen|mean of the log", "log_p.mean(0)"),
        (r"\bK\b|divide|sum|mean", "log_p.logsumexp(0)"),
        (r"axis|images|draws", "log_p.logsumexp(1) - math.log(log_p.shape[1])"),
        (r"underflow|logsumexp|overflow|exp", "log_p.exp().mean(0).log()"),
        (r"best draw", "log_p.max(0).values"),
        (r"sign", "-(log_p.logsumexp(0) - math.log(len(log_p)))"),
        (r"\bK\b|outside|5", "log_p.logsumexp(0) - math.log(5)"),
        (r"log", "log_p.exp().mean(0)"),
        (r"\bK\b|divide|log", "log_p.logsumexp(0) / len(log_p)"),
        (
            r"one (value|number)|image|average",
            "(log_p.logsumexp(0) - math.log(len(log_p))).mean()",
        ),
        (r"\bK\b|B\b|images|draws", "log_p.logsumexp(0) - math.log(log_p.shape[1])"),
        (
            r"maxim|table|underflow|column|image",
            "top = log_p.max()\nreturn top + (log_p - top).exp().mean(0).log()",
        ),
        (
            r"minim|overflow|largest|max",
            "low = log_p.min(0).values\nreturn low + (log_p - low).exp().mean(0).log()",
        ),
        (r"log2|base|natural", "log_p.logsumexp(0) - math.log2(len(log_p))"),
    ],
    "kl": [
        (r"1/2|half", "(log_variance.exp() + loc.square() - 1 - log_variance).sum(-1)"),
        (r"sign", "-0.5 * (log_variance.exp() + loc.square() - 1 - log_variance).sum(-1)"),
        (
            r"exp|log sigma|variance",
            "0.5 * (log_variance + loc.square() - 1 - log_variance.log()).sum(-1)",
        ),
        (r"-? ?1\b", "0.5 * (log_variance.exp() + loc.square() - log_variance).sum(-1)"),
        (r"sum|latents", "0.5 * (log_variance.exp() + loc.square() - 1 - log_variance).mean(-1)"),
        (
            r"per image|sum|one value",
            "0.5 * (log_variance.exp() + loc.square() - 1 - log_variance).sum()",
        ),
        (
            r"axis|latents|images",
            "0.5 * (log_variance.exp() + loc.square() - 1 - log_variance).sum(0)",
        ),
        (r"square", "0.5 * (log_variance.exp() + loc - 1 - log_variance).sum(-1)"),
        (r"sum|shape", "0.5 * (log_variance.exp() + loc.square() - 1 - log_variance)"),
        (r"sign|log", "0.5 * (log_variance.exp() + loc.square() - 1 + log_variance).sum(-1)"),
        (
            r"square|twice|variance",
            "0.5 * (log_variance.exp().square() + loc.square() - 1 - log_variance).sum(-1)",
        ),
        (
            r"sigma|standard deviation|variance",
            "0.5 * ((log_variance / 2).exp() + loc.square() - 1 - log_variance).sum(-1)",
        ),
        (
            r"revers|other way|p \|\| q|prior",
            "0.5 * ((-log_variance).exp() * (1 + loc.square()) - 1 + log_variance).sum(-1)",
        ),
        (
            r"exp\(-|inverse|sign",
            "0.5 * ((-log_variance).exp() + loc.square() - 1 - log_variance).sum(-1)",
        ),
        (r"mu|loc", "0.5 * (log_variance.exp() - 1 - log_variance).sum(-1)"),
        (r"log", "0.5 * (log_variance.exp() + loc.square() - 1).sum(-1)"),
        (
            r"gradient",
            "0.5 * (log_variance.exp() + loc.detach().square() - 1 - log_variance).sum(-1)",
        ),
        (
            r"softplus",
            "v = F.softplus(log_variance)\nreturn 0.5 * (v + loc.square() - 1 - v.log()).sum(-1)",
        ),
    ],
    "reparametrise": [
        (r"root|standard deviation|variance", "loc + log_variance.exp() * noise"),
        (r"exp|log", "loc + log_variance * noise"),
        (r"noise|drawn|random", "loc + (log_variance / 2).exp() * torch.randn_like(loc)"),
        (r"noise", "loc + (log_variance / 2).exp()"),
        (r"scale|sigma", "loc + noise"),
        (r"loc|mean|mu", "(log_variance / 2).exp() * noise"),
        (r"random numbers of its own", "dist.Normal(loc, (log_variance / 2).exp()).sample()"),
        (r"sign|inverse|divid|exp\(-", "loc + (-log_variance / 2).exp() * noise"),
        (r"root|sqrt|log|exp", "loc + log_variance.sqrt() * noise"),
        (r"2|square|twice|double", "loc + (2 * log_variance).exp() * noise"),
        (r"gradient", "(loc + (log_variance / 2).exp() * noise).detach()"),
        (r"loc|scale|inside|both|mean", "(loc + noise) * (log_variance / 2).exp()"),
    ],
    "elbo": [
        (
            r"sign|loss|minus|larger",
            "z = rep(loc, log_variance, noise)\nreturn -(fit(x, z, decoder, log_pixel_var"
            "iance) - KL(loc, log_variance)).mean()",
        ),
        (
            r"KL|sign|plus|minus",
            "z = rep(loc, log_variance, noise)\nreturn (fit(x, z, decoder, log_pixel_vari"
            "ance) + KL(loc, log_variance)).mean()",
        ),
        (
            r"sum|average|mean",
            "z = rep(loc, log_variance, noise)\nreturn (fit(x, z, decoder, log_pixel_vari"
            "ance) - KL(loc, log_variance)).sum()",
        ),
        (
            r"average|one (value|number)|single|shape",
            "z = rep(loc, log_variance, noise)\nreturn fit(x, z, decoder, log_pixel_varia"
            "nce) - KL(loc, log_variance)",
        ),
        (
            r"KL",
            "z = rep(loc, log_variance, noise)\nreturn fit(x, z, decoder, log_pixel_varia"
            "nce).mean()",
        ),
        (
            r"noise|draw|mean of q",
            "return (fit(x, loc, decoder, log_pixel_variance) - KL(loc, log_variance)).mean()",
        ),
        (
            r"standard deviation|variance|sigma",
            "z = rep(loc, log_variance, noise)\nreturn (dist.Normal(decoder(z), "
            "log_pixel_variance.exp()).log_prob(x).sum(-1) - KL(loc, log_variance)).mean("
            ")",
        ),
        (
            r"pixel|sum",
            "z = rep(loc, log_variance, noise)\nreturn (dist.Normal(decoder(z), "
            "(log_pixel_variance / 2).exp()).log_prob(x).mean(-1) - KL(loc, log_variance)"
            ").mean()",
        ),
        (
            r"constant|2 ?pi",
            "z = rep(loc, log_variance, noise)\nreturn (-0.5 * ((x - decoder(z)).square()"
            " / log_pixel_variance.exp() + log_pixel_variance).sum(-1) - KL(loc, "
            "log_variance)).mean()",
        ),
        (
            r"constant|normalis|likelihood|log sigma",
            "z = rep(loc, log_variance, noise)\nreturn (-0.5 * ((x - decoder(z)).square()"
            " / log_pixel_variance.exp()).sum(-1) - KL(loc, log_variance)).mean()",
        ),
        (
            r"standard deviation|variance|root",
            "z = loc + log_variance.exp() * noise\nreturn (fit(x, z, decoder, "
            "log_pixel_variance) - KL(loc, log_variance)).mean()",
        ),
        (
            r"noise|random|draw",
            "z = dist.Normal(loc, (log_variance / 2).exp()).rsample()\nreturn "
            "(fit(x, z, decoder, log_pixel_variance) - KL(loc, log_variance)).mean()",
        ),
        (
            r"KL|average|sum|mean",
            "z = rep(loc, log_variance, noise)\nreturn fit(x, z, decoder, log_pixel_varia"
            "nce).mean() - KL(loc, log_variance).sum()",
        ),
        (
            r"squared|likelihood|sigma",
            "z = rep(loc, log_variance, noise)\nreturn (-(x - decoder(z)).square().sum(-1"
            ") - KL(loc, log_variance)).mean()",
        ),
    ],
    "encoder": [
        (r"ReLU|nonlinear|affine", "ENCODER:nn.Sequential(nn.Linear(D, H), nn.Linear(H, 2 * M))"),
        (
            r"exp|log",
            "ENCODER:nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 2 * M))|loc, s.exp()",
        ),
        (
            r"softplus|exp|sign|ReLU",
            "ENCODER:nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 2 "
            "* M))|loc, F.softplus(s)",
        ),
        (
            r"tanh|bound",
            "ENCODER:nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 2 "
            "* M))|loc, torch.tanh(s)",
        ),
        (
            r"clamp|clip|bound",
            "ENCODER:nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 2 "
            "* M))|loc, s.clamp(-5, 5)",
        ),
        (
            r"two",
            "ENCODER:nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 2 "
            "* M))|torch.cat([loc, s], -1)",
        ),
        (
            r"same",
            "ENCODER:nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 2 * M))|loc, loc",
        ),
        (
            r"ReLU|sign|last layer|linear",
            "ENCODER:nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 2 * M), nn.ReLU())",
        ),
        (
            r"batch ?norm",
            "ENCODER:nn.Sequential(nn.Linear(D, H), nn.BatchNorm1d(H), nn.ReLU(), "
            "nn.Linear(H, 2 * M))",
        ),
        (
            r"dropout|random",
            "ENCODER:nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Dropout(0.5), "
            "nn.Linear(H, 2 * M))",
        ),
        (
            r"400|hidden",
            "ENCODER:nn.Sequential(nn.Linear(D, 40), nn.ReLU(), nn.Linear(40, 2 * M))",
        ),
        (
            r"has shape",
            "ENCODER:nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 2 * M))|loc.mT, s.mT",
        ),
        (
            r"detach|gradient",
            "ENCODER:nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 2 "
            "* M))|loc.detach(), s",
        ),
        (
            r"ReLU|tanh|sigmoid",
            "ENCODER:nn.Sequential(nn.Linear(D, H), nn.Sigmoid(), nn.Linear(H, 2 * M))",
        ),
    ],
    "decoder": [
        (
            r"sigmoid|linear|bound|between",
            "nn.Sequential(nn.Linear(M, H), nn.ReLU(), nn.Linear(H, D), nn.Sigmoid())",
        ),
        (r"affine|nonlinear|ReLU", "nn.Sequential(nn.Linear(M, H), nn.Linear(H, D))"),
        (r"400|hidden", "nn.Sequential(nn.Linear(M, 40), nn.ReLU(), nn.Linear(40, D))"),
        (
            r"ReLU|sign|last",
            "nn.Sequential(nn.Linear(M, H), nn.ReLU(), nn.Linear(H, D), nn.ReLU())",
        ),
        (r"size|input|fit|M\b|D\b", "nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, M))"),
        (
            r"dropout|random",
            "nn.Sequential(nn.Linear(M, H), nn.ReLU(), nn.Dropout(0.2), nn.Linear(H, D))",
        ),
        (r"ReLU", "nn.Sequential(nn.Linear(M, H), nn.Tanh(), nn.Linear(H, D))"),
        (
            r"hidden|layer",
            "nn.Sequential(nn.Linear(M, H), nn.ReLU(), nn.Linear(H, H), nn.ReLU(), "
            "nn.Linear(H, D))",
        ),
        (
            r"leading|dimension|flatten|axis|several",
            "nn.Sequential(nn.Flatten(), nn.Linear(M, H), nn.ReLU(), nn.Linear(H, D))",
        ),
        (
            r"softmax|sign|sum",
            "nn.Sequential(nn.Linear(M, H), nn.ReLU(), nn.Linear(H, D), nn.Softmax(-1))",
        ),
        (r"network|call|module|None|return", "None"),
    ],
    "binarise": [
        (r"draw|threshold|random", "(x > 0.5).float()"),
        (r"round|threshold|draw|random", "x.round()"),
        (r"shape", "torch.bernoulli(F.pad(x, (2,) * 4))"),
        (r"uniform|pixel|same|share", "(torch.rand(1) < x).float()"),
        (r"seed|same", "torch.manual_seed(0)\nreturn torch.bernoulli(x)"),
        (r"draw|0 or 1|grey|binary", "x"),
        (r"exchanged", "(torch.rand_like(x) > x).float()"),
        (r"shape", "torch.bernoulli(x).flatten(1)"),
        (r"uniform|normal|randn", "(torch.randn_like(x) < x).float()"),
    ],
    "count_parameters": [
        (r"tensor|numel|numbers", "len(list(module.parameters()))"),
        (r"bias|weight", "sum(p.numel() for n, p in module.named_parameters() if 'weight' in n)"),
        (r"first|shape|rows", "sum(len(p) for p in module.parameters())"),
        (r"buffer", "sum(p.numel() for p in module.state_dict().values())"),
        (r"several times", "sum(p.numel() for m in module.modules() for p in m.parameters())"),
        (r"number|int|shape", "[p.numel() for p in module.parameters()]"),
    ],
    "count_convolutions": [
        (
            r"depth|nested|children|modules",
            "sum(isinstance(m, nn.Conv2d) for m in module.children())",
        ),
        (r"layer|all|Conv2d", "len(list(module.modules()))"),
        (
            r"parameter|weight|bias|layer",
            "sum('weight' in n for n, p in module.named_parameters())",
        ),
        (
            r"Conv1d|Conv2d|transposed|other",
            "sum('Conv' in type(m).__name__ for m in module.modules())",
        ),
        (
            r"twice|once",
            "sum(isinstance(m, nn.Conv2d) for _, m in module.named_modules(remove_duplica"
            "te=False))",
        ),
    ],
    "pair": [
        (
            r"name|latent",
            "GUIDE:with pyro.plate('data', len(x)):\n    pyro.sample('latent', "
            "dist.Normal(encoder(x)[0], 1.0).to_event(1))",
        ),
        (
            r"to_event|event",
            "GUIDE:with pyro.plate('data', len(x)):\n    pyro.sample('z', dist.Normal(enc"
            "oder(x)[0], 1.0))",
        ),
        (r"plate", "GUIDE:pyro.sample('z', dist.Normal(encoder(x)[0], 1.0).to_event(1))"),
        (
            r"pyro.module|parameters|register",
            "GUIDE:with pyro.plate('data', len(x)):\n    pyro.sample('z', dist.Normal(enc"
            "oder(x)[0], 1.0).to_event(1))",
        ),
        (
            r"obs",
            "MODEL:pyro.module('decoder', decoder)\nwith pyro.plate('data', len(x)):\n"
            "    z = pyro.sample('z', dist.Normal(torch.zeros(len(x), M), 1.0).to_event(1"
            "))\n    pyro.sample('x', dist.Normal(decoder(z), 1.0).to_event(1))",
        ),
        (
            r"N\(0, I\)|prior",
            "MODEL:pyro.module('decoder', decoder)\nwith pyro.plate('data', len(x)):\n"
            "    z = pyro.sample('z', dist.Normal(torch.zeros(len(x), M), 2.0).to_event(1"
            "))\n    pyro.sample('x', dist.Normal(decoder(z), 1.0).to_event(1), "
            "obs=x)",
        ),
        (
            r"row|one.*image|batch|\[M\]|plate",
            "MODEL:pyro.module('decoder', decoder)\nwith pyro.plate('data', len(x)):\n"
            "    z = pyro.sample('z', dist.Normal(torch.zeros(M), 1.0).to_event(1))\n"
            "    pyro.sample('x', dist.Normal(decoder(z), 1.0), obs=x)",
        ),
        (
            r"z|sample|latent",
            "MODEL:pyro.module('decoder', decoder)\nwith pyro.plate('data', len(x)):\n"
            "    pyro.sample('x', dist.Normal(decoder(torch.randn(len(x), M)), "
            "1.0).to_event(1), obs=x)",
        ),
        (
            r"obs|image|data",
            "MODEL:pyro.module('decoder', decoder)\nwith pyro.plate('data', len(x)):\n"
            "    z = pyro.sample('z', dist.Normal(torch.zeros(len(x), M), 1.0).to_event(1"
            "))\n    pyro.sample('x', dist.Normal(decoder(z), 1.0).to_event(1), "
            "obs=decoder(z))",
        ),
    ],
}
