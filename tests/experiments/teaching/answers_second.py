"""Wrong answers to the labs, written with the checks at hand, to get past them.

As in ``answers_first``: what a hint has to speak of, and the answer. Empty where only a general
hint can be expected: what it may say then is where the answer is right, or how it differs.
"""

COST = """
m, c = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]), x - mu
p, d = c @ W, len(mu) - W.shape[1]
q = ((c.square().sum(1) - (p @ m.inverse() * p).sum(1)) / log_variance.exp()).mean()
return """
BOUND = """
z = rep(loc, log_variance, noise)
return """
MODEL = """MODEL:pyro.module('decoder', decoder)
with pyro.plate('data', len(x)):
    z = pyro.sample('z', {prior})
    pyro.sample('x', {likelihood}, obs=x)
"""
PRIOR = "dist.Normal(torch.zeros(len(x), M), 1.0).to_event(1)"
LIKELIHOOD = "dist.Normal(decoder(z), 1.0).to_event(1)"
MLP = "nn.Sequential(nn.Linear(M, H), nn.ReLU(), nn.Linear(H, D))"
LAYERS = "ENCODER:nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 2 * M))"
DECODER = """
class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(M, H), nn.Linear(H, D)
    def forward(self, z):
        {forward}
def answer(*sizes):
    return Decoder()
"""

WRONG = {
    "pca": [
        (r"changes the tensor", "x -= x.mean(0)\nreturn x.mean(0), svd(x)[2][:latent_dim].mT"),
        (r"median", "x.median(0).values, svd(x - x.mean(0))[2][:latent_dim].mT"),
        (r"own mean", "x.mean(0), svd(x - x.mean(1, keepdim=True))[2][:latent_dim].mT"),
        (r"outside", "mean, svd(x - x.mean(0))[2][:latent_dim].mT"),
        (r"left out", "x.mean(0), svd(x - x.mean(0))[2][1:latent_dim + 1].mT"),
        (r"expects a tensor", "x.mean(0).numpy(), svd(x - x.mean(0))[2][:latent_dim].mT.numpy()"),
        (r"axis too many", "x.mean(0, keepdim=True), svd(x - x.mean(0))[2][:latent_dim].mT"),
        (r"order", "x.mean(0), svd(x - x.mean(0))[2][:latent_dim].mT.flip(1)"),
        (r"random numbers of its own", "x.mean(0), torch.rand(x.shape[1], latent_dim)"),
        ("", "x.mean(0), torch.eye(x.shape[1])[:, :latent_dim]"),
    ],
    "pca_encoder": [
        (r"expects a tensor", "((x - mean) @ components).numpy()"),
        (r"image space", "(x - mean) @ components @ components.mT"),
        (r"one number", "(x - mean.mean()) @ components"),
        (r"projection of the mean", "x @ components - 0.5 * mean @ components"),
        (r"changes the tensor", "x -= mean\nreturn x @ components"),
        (r"length one", "d = x - mean\nreturn d / d.norm(dim=1, keepdim=True) @ components"),
        (r"expects real numbers", "((x - mean) @ components) > 0"),
        (r"first two", "((x - mean) @ components)[:, :2]"),
    ],
    "pca_decoder": [
        (r"subtracted from the mean", "mean - z @ components.mT"),
        (r"What the latents add", "2 * z @ components.mT + mean"),
        (r"negative pixels", "F.relu(z @ components.mT + mean)"),
        (r"outside", "z @ components.mT + x_train.mean(0)"),
        (r"for every z", "mean.repeat(len(z), 1)"),
        (r"tanh", "torch.tanh(z @ components.mT + mean)"),
        (r"misspelt|not been run", "z @ component.mT + mean"),
    ],
    "squared_error": [
        (r"cubed", "(x - reconstruction).abs().pow(3).sum(1).mean()"),
        (r"N - 1", "(x - reconstruction).square().sum() / (len(x) - 1)"),
        (
            r"divided by the number of images twice",
            "(x - reconstruction).square().sum(1).mean() / len(x)",
        ),
        (r"variance", "(x - reconstruction).var(1).mean()"),
        (r"pixels", "F.mse_loss(x, reconstruction)"),
        (r"median", "(x - reconstruction).square().sum(1).median()"),
        (r"number 784", "F.mse_loss(x, reconstruction) * 784"),
        (r"multiplied", "(x * reconstruction).sum(1).mean()"),
        (r"no 1/2", "F.smooth_l1_loss(x, reconstruction, reduction='sum') / len(x)"),
        ("", "(x - reconstruction).square().sum(1).mean() + 1"),
        ("", "1.7 * (x - reconstruction).square().sum(1).mean()"),
    ],
    "ppca_cost": [
        (r"determinant of M stands", COST + "m.det() + d * log_variance + q"),
        (r"base 2", COST + "m.det().log2() + d * log_variance + q"),
        (r"base 10", COST + "m.det().log10() + d * log_variance + q"),
        (r"D \+ M", COST + "m.logdet() + (len(mu) + W.shape[1]) * log_variance + q"),
        (r"wrong sign", COST + "m.logdet() - d * log_variance + q"),
        (r"log \|M\|.*wrong sign|wrong sign", COST + "-m.logdet() + d * log_variance + q"),
        (r"number 784|written into", COST + "m.logdet() + (784 - W.shape[1]) * log_variance + q"),
        (r"twice", COST + "m.logdet() + d * log_variance + q / len(x)"),
        (r"Log \|M\| is missing", COST + "d * log_variance + q"),
        (r"Log \|M\| counts 0.5", COST + "0.5 * m.logdet() + d * log_variance + q"),
        (r"no gradient flows", COST + "(m.logdet() + d * log_variance + q).item()"),
        (r"gradient", COST + "m.logdet().detach() + d * log_variance + q"),
        (r"base 2", COST + "m.logdet() / math.log(2) + d * log_variance + q"),
        (
            r"1 / M|every entry",
            COST.replace("m.inverse()", "(1 / m)") + "m.logdet() + d * log_variance + q",
        ),
        (
            r"exponential|softplus",
            COST.replace("log_variance.exp()", "F.softplus(log_variance)")
            + "m.logdet() + d * F.softplus(log_variance).log() + q",
        ),
        (
            r"1 / sigma\^2",
            COST.replace("log_variance.exp()", "(-log_variance).exp()")
            + "m.logdet() - d * log_variance + q",
        ),
        (
            r"batch's mean",
            COST.replace("x - mu", "x - x.mean(0)") + "m.logdet() + d * log_variance + q",
        ),
        (r"W⊤W", COST + "(W.mT @ W).logdet() + d * log_variance + q"),
        ("", COST + "m.logdet() + d * log_variance + q + mu.square().sum()"),
        ("", COST + "m.logdet() + d * log_variance.clamp(min=0) + q"),
    ],
    "posterior": [
        (
            r"every entry",
            "m = W.mT @ W + log_variance.exp() * torch.eye(W.shape[1])\n"
            "return (x - mu) @ W @ m.inverse(), log_variance.exp() / m",
        ),
        (
            r"diagonal",
            "m = torch.linalg.inv(W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]))"
            "\nreturn (x - mu) @ W @ m, log_variance.exp() * m.diagonal()",
        ),
        (
            r"covariance of x",
            "m = torch.linalg.inv(W.mT @ W + log_variance.exp() * "
            "torch.eye(W.shape[1]))\n"
            "return (x - mu) @ W @ m, W @ W.mT + log_variance.exp() * torch.eye(len(W))",
        ),
        (
            r"one covariance per image",
            "m = torch.linalg.inv(W.mT @ W + log_variance.exp() * "
            "torch.eye(W.shape[1]))\n"
            "return (x - mu) @ W @ m, (log_variance.exp() * m).expand(len(x), -1, -1)",
        ),
        (
            r"Cholesky",
            "m = torch.linalg.inv(W.mT @ W + log_variance.exp() * torch.eye(W.shape[1]))"
            "\nreturn (x - mu) @ W @ m, torch.linalg.cholesky(log_variance.exp() * m)",
        ),
        (
            r"has I where",
            "m = torch.linalg.inv(W.mT @ W + torch.eye(W.shape[1]))\n"
            "return (x - mu) @ W @ m, log_variance.exp() * m",
        ),
        (
            r"batch's mean",
            "m = torch.linalg.inv(W.mT @ W + log_variance.exp() * "
            "torch.eye(W.shape[1]))\n"
            "return (x - x.mean(0)) @ W @ m, log_variance.exp() * m",
        ),
        (
            r"lacks the inverse",
            "m = torch.linalg.inv(W.mT @ W + log_variance.exp() * "
            "torch.eye(W.shape[1]))\nreturn (x - mu) @ W, log_variance.exp() * m",
        ),
        (
            r"W⊤W alone",
            "m = torch.linalg.pinv(W)\nreturn (x - mu) @ m.mT, log_variance.exp() * m @ m.mT",
        ),
    ],
    "ppca_decoder": [
        (r"added twice", "z @ W.mT + 2 * mu"),
        (r"`return`", "W @ z.mT + mu[:, None]\nreturn"),
        (r"clipped", "(z @ W.mT + mu).clamp(0, 1)"),
        (r"gradient", "z @ W.detach().mT + mu"),
        (r"axes are exchanged|transposed", "W @ z.mT + mu[:, None]"),
    ],
    "draw_latents": [
        (
            r"a seed of its own",
            "mine = torch.Generator().manual_seed(0)\n"
            "return temperature * torch.randn(count, latent_dim, generator=mine)",
        ),
        (
            r"not independent|same draw",
            "temperature * torch.randn(count, 1).expand(count, latent_dim)",
        ),
        (r"whole numbers", "torch.randint(-1, 2, (count, latent_dim))"),
        (r"not normal", "temperature * 12**0.5 * (torch.rand(count, latent_dim) - 0.5)"),
        (r"not normal", "temperature * torch.randn(count, latent_dim).sign()"),
        (r"torch is expected", "temperature * np.random.randn(count, latent_dim)"),
        (r"exp\(T\)", "math.exp(temperature) * torch.randn(count, latent_dim)"),
        (r"does nothing", "dist.Normal(torch.zeros(count, latent_dim), 1.0).sample()"),
        (r"at T = 2", "min(temperature, 1.0) * torch.randn(count, latent_dim)"),
        (r"not normal", "dist.StudentT(3.0).sample((count, latent_dim)) * temperature / 3**0.5"),
        (r"nothing \(None\)", "z = temperature * torch.randn(count, latent_dim)\nreturn"),
    ],
    "log_likelihood": [
        (
            r"softplus",
            "dist.Normal(decoder(z)[:, None], F.softplus(log_variance)).log_prob(x).sum(-1)",
        ),
        (
            r"sign too many",
            "dist.Normal(decoder(z)[:, None], (-log_variance / 2).exp()).log_prob(x).sum(-1)",
        ),
        (
            r"draws are already",
            "dist.Normal(decoder(z)[:, None], (log_variance / 2).exp())"
            ".log_prob(x).sum(-1).logsumexp(0)",
        ),
        (
            r"base 2",
            "d = x.shape[-1]\nreturn -d / 2 * (math.log2(2 * math.pi) + log_variance) - "
            "((x - decoder(z)[:, None]) ** 2).sum(-1) / (2 * log_variance.exp())",
        ),
        (
            r"too rough",
            "d = x.shape[-1]\nreturn -d / 2 * (math.log(2 * 22 / 7) + log_variance) - "
            "((x - decoder(z)[:, None]) ** 2).sum(-1) / (2 * log_variance.exp())",
        ),
        (
            r"divisor.*sigma stands where",
            "d = x.shape[-1]\nreturn -d / 2 * (math.log(2 * math.pi) + log_variance)"
            " - ((x - decoder(z)[:, None]) ** 2).sum(-1) / (2 * (log_variance / 2).exp())",
        ),
        (
            r"counts 2 times",
            "d = x.shape[-1]\nreturn -d / 2 * math.log(2 * math.pi) - d * log_variance"
            " - ((x - decoder(z)[:, None]) ** 2).sum(-1) / (2 * log_variance.exp())",
        ),
        (
            r"not squared",
            "d = x.shape[-1]\nreturn -d / 2 * (math.log(2 * math.pi) + log_variance)"
            " - (x - decoder(z)[:, None]).abs().sum(-1) / (2 * log_variance.exp())",
        ),
        (
            r"sum goes over the images",
            "dist.Normal(decoder(z)[:, None], (log_variance / 2).exp()).log_prob(x).sum(1)",
        ),
        (r"sigma is 1", "dist.Normal(decoder(z)[:, None], 1.0).log_prob(x).sum(-1)"),
        (
            r"gradient",
            "dist.Normal(decoder(z)[:, None], (log_variance / 2).exp().item())"
            ".log_prob(x).sum(-1)",
        ),
        (
            "",
            "dist.Normal(decoder(z)[:, None], (log_variance / 2).exp() + 0.1).log_prob(x).sum(-1)",
        ),
        ("", "dist.Laplace(decoder(z)[:, None], (log_variance / 2).exp()).log_prob(x).sum(-1)"),
    ],
    "monte_carlo_likelihood": [
        (r"small number", "(log_p.exp() + 1e-8).mean(0).log()"),
        (r"not put back", "(log_p - log_p.max(0).values).exp().mean(0).log()"),
        (r"base 10", "log_p.logsumexp(0) - math.log10(len(log_p))"),
        (r"K twice", "log_p.logsumexp(0) - 2 * math.log(len(log_p))"),
        (r"all entries", "log_p.logsumexp(0) - math.log(log_p.numel())"),
        (r"`K` is taken", "log_p.logsumexp(0) - math.log(K)"),
        (r"K - 1", "log_p.logsumexp(0) - math.log(len(log_p) - 1)"),
        (r"share", "log_p.log_softmax(0)"),
        (r"not the largest", "c = log_p.mean(0)\nreturn c + (log_p - c).exp().mean(0).log()"),
        (r"underflows", "torch.tensor([p.exp().mean().log() for p in log_p.T])"),
        (r"gradient", "log_p.detach().logsumexp(0) - math.log(len(log_p))"),
        (r"axis of length 1", "log_p.logsumexp(0, keepdim=True) - math.log(len(log_p))"),
        (
            r"lost|one maximum|underflow",
            "m = log_p.max()\n"
            "return torch.log(torch.exp(log_p - m).sum(0)) + m - math.log(len(log_p))",
        ),
    ],
    "kl": [
        (r"comma", "return 0.5 * (log_variance.exp() + loc.square() - 1 - log_variance).sum(-1),"),
        (r"squeeze", "KL(loc, log_variance).squeeze()"),
        (
            r"in place",
            "v = log_variance.exp()\nv += loc.square()\nreturn (v - 1 - log_variance).sum(1) / 2",
        ),
        (
            r"base 2",
            "0.5 * (log_variance.exp() + loc.square() - 1 - log_variance.exp().log2()).sum(-1)",
        ),
        (
            r"base 10",
            "0.5 * (log_variance.exp() + loc.square() - 1 - log_variance.exp().log10()).sum(-1)",
        ),
        (
            r"softplus",
            "0.5 * (F.softplus(log_variance) + loc.square() - 1 - log_variance).sum(-1)",
        ),
        (
            r"outside of the 1/2",
            "(0.5 * (log_variance.exp() + loc.square() - log_variance) - 1).sum(-1)",
        ),
        (
            r"belongs to every latent",
            "0.5 * (log_variance.exp() + loc.square() - log_variance).sum(-1) - 0.5",
        ),
        (
            r"summed before",
            "0.5 * ((log_variance.exp() - 1 - log_variance).sum(-1) + loc.sum(-1) ** 2)",
        ),
        (
            r"mu\^2 counts 2 times",
            "(0.5 * (log_variance.exp() - 1 - log_variance) + loc.square()).sum(-1)",
        ),
        (
            r"mu\^2 has the wrong sign",
            "0.5 * (log_variance.exp() - loc.square() - 1 - log_variance).sum(-1)",
        ),
        (r"sigma\^2 is missing", "0.5 * (loc.square() - 1 - log_variance).sum(-1)"),
        (
            r"not log sigma",
            "0.5 * ((2 * log_variance).exp() + loc.square() - 1 - 2 * log_variance).sum(-1)",
        ),
        (r"multiplied", "(0.5 * (log_variance.exp() + loc.square() - 1 - log_variance)).prod(-1)"),
        (
            r"axis of length 1",
            "0.5 * (log_variance.exp() + loc.square() - 1 - log_variance).sum(-1, keepdim=True)",
        ),
        (
            r"true or false",
            "(0.5 * (log_variance.exp() + loc.square() - 1 - log_variance)).sum(-1) > 0",
        ),
        (
            r"number of latents",
            "0.5 * (log_variance.exp() + loc.square() - 1 - log_variance).mean(-1) / loc.shape[1]",
        ),
        (
            r"inside the sum and the 1/2",
            "0.5 * (log_variance.exp() + loc.square() - log_variance).sum(-1) - 2 / 2",
        ),
        (
            r"expects a tensor",
            "[0.5 * float((v.exp() + m.square() - 1 - v).sum()) for m, v in "
            "zip(loc, log_variance)][0]",
        ),
        (
            "",
            "0.5 * (log_variance.exp() + loc.square() - 1 - log_variance.clamp(min=-0.5)).sum(-1)",
        ),
        ("", "0.5 * (log_variance.exp() + loc.square() - 1 - log_variance).sum(-1) + 2"),
        (
            r"term with sigma\^2 is missing",
            "0.5 * ((1 + log_variance) + loc.square() - 1 - log_variance).sum(-1)",
        ),
    ],
    "reparametrise": [
        (r"softplus", "loc + F.softplus(log_variance) * noise"),
        (r"added to the noise", "loc + (log_variance / 2).exp() + noise"),
        (r"exchanged", "log_variance + (loc / 2).exp() * noise"),
        (r"root too many", "loc + (log_variance / 4).exp() * noise"),
        (r"sigmoid", "loc + torch.sigmoid(log_variance) * noise"),
        (r"first one's noise", "loc + (log_variance / 2).exp() * noise[:1]"),
        (r"base", "loc + 10 ** (log_variance / 2) * noise"),
        (r"gradient", "loc + (log_variance / 2).exp().detach() * noise"),
        (r"noise is squared", "loc + (log_variance / 2).exp() * noise**2"),
        (r"noise times sigma counts 2", "loc + 2 * (log_variance / 2).exp() * noise"),
        (r"latents are summed", "(loc + (log_variance / 2).exp() * noise).sum(1)"),
        ("", "loc + (log_variance.clamp(max=0) / 2).exp() * noise"),
        ("", "loc + (1 + log_variance / 2) * noise"),
    ],
    "elbo": [
        (
            r"images twice",
            BOUND + "(fit(x, z, decoder, log_pixel_variance) - KL(loc, log_variance))"
            ".mean() / len(x)",
        ),
        (
            r"softplus",
            BOUND + "(dist.Normal(decoder(z), F.softplus(log_pixel_variance)).log_prob(x)"
            ".sum(-1) - KL(loc, log_variance)).mean()",
        ),
        (
            r"other way round",
            BOUND + "(fit(x, z, decoder, log_pixel_variance) - "
            "KL(-loc * (-log_variance / 2).exp(), -log_variance)).mean()",
        ),
        (
            r"averaged over the latents",
            BOUND + "(fit(x, z, decoder, log_pixel_variance) - "
            "KL(loc, log_variance) / loc.shape[1]).mean()",
        ),
        (
            r"p\(x \| z\), sigma is 1",
            BOUND + "(dist.Normal(decoder(z), 1.0).log_prob(x).sum(-1) - "
            "KL(loc, log_variance)).mean()",
        ),
        (
            r"gets the noise",
            "return (fit(x, noise, decoder, log_pixel_variance) - KL(loc, log_variance)).mean()",
        ),
        (
            r"counts half",
            BOUND + "(fit(x, z, decoder, log_pixel_variance) - KL(loc, log_variance) / 2).mean()",
        ),
        (
            r"log q",
            BOUND + "(fit(x, z, decoder, log_pixel_variance) + "
            "dist.Normal(0.0, 1.0).log_prob(z).sum(-1)).mean()",
        ),
        (
            r"mean squared error",
            BOUND + "(-(x - decoder(z)).square().mean(-1) - KL(loc, log_variance)).mean()",
        ),
        (
            r"too rough",
            BOUND + "(-0.5 * ((x - decoder(z)).square() / log_pixel_variance.exp() + "
            "log_pixel_variance + math.log(6.28)).sum(-1) - KL(loc, log_variance)).mean()",
        ),
        (
            r"gradient",
            BOUND + "(fit(x, z.detach(), decoder, log_pixel_variance) - "
            "KL(loc, log_variance)).mean()",
        ),
        (
            r"summed over images",
            BOUND + "fit(x, z, decoder, log_pixel_variance).sum() - KL(loc, log_variance).mean()",
        ),
        (
            r"mu\^2",
            BOUND + "(fit(x, z, decoder, log_pixel_variance) - KL(loc, log_variance) + "
            "loc.square().sum(-1) / 2).mean()",
        ),
        (
            r"D/2 log sigma\^2 of the pixels counts",
            BOUND + "(fit(x, z, decoder, log_pixel_variance) - "
            "KL(loc, log_variance)).mean() - x.shape[1] / 2 * log_pixel_variance",
        ),
        (
            r"wrong sign",
            BOUND + "-(fit(x, z, decoder, log_pixel_variance) + KL(loc, log_variance)).mean()",
        ),
        (
            "",
            BOUND + "(fit(x, z, decoder, log_pixel_variance) - KL(loc, log_variance).clamp(min=2))"
            ".mean()",
        ),
        (
            "",
            BOUND
            + "(fit(x, z.tanh(), decoder, log_pixel_variance) - KL(loc, log_variance)).mean()",
        ),
    ],
    "encoder": [
        (
            r"applied to the input",
            "ENCODER:nn.Sequential(nn.ReLU(), nn.Linear(D, H), nn.Linear(H, 2 * M))",
        ),
        (r"smooth", "ENCODER:nn.Sequential(nn.Linear(D, H), nn.Softplus(), nn.Linear(H, 2 * M))"),
        (r"GELU", "ENCODER:nn.Sequential(nn.Linear(D, H), nn.GELU(), nn.Linear(H, 2 * M))"),
        (r"bounded from below", LAYERS + "|loc, s.clamp(min=-10)"),
        (r"bounded from above", LAYERS + "|loc, s.clamp(max=2)"),
        (r"the mean is bounded", LAYERS + "|torch.tanh(loc), s"),
        (r"tensor of torch", LAYERS + "|loc.detach().numpy(), s.detach().numpy()"),
        (r"gradient flows to the log variance", LAYERS + "|loc, s.detach()"),
        (r"never changes", LAYERS + "|loc, s.abs()"),
        (r"shape", "ENCODER:nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 4 * M))"),
        (r"two tensors", LAYERS + "|{'loc': loc, 'log_variance': s}"),
        (
            r"more layers",
            "ENCODER:nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, H), "
            "nn.ReLU(), nn.Linear(H, 2 * M))",
        ),
        (
            r"no bias",
            "ENCODER:nn.Sequential(nn.Linear(D, H, bias=False), nn.ReLU(), nn.Linear(H, 2 * M))",
        ),
        (r"different results", LAYERS + "|loc + torch.randn_like(loc), s"),
        (r"other rows", LAYERS + "|loc - loc.mean(0), s"),
        (
            r"layer norm",
            "ENCODER:nn.Sequential(nn.Linear(D, H), nn.LayerNorm(H), nn.ReLU(), "
            "nn.Linear(H, 2 * M))",
        ),
        (r"this is the class", "def answer(*sizes):\n    return nn.Linear"),
        (r"nothing \(None\)", LAYERS + "|None"),
    ],
    "decoder": [
        (
            r"applied to the input",
            DECODER.format(forward="return self.last(self.first(F.relu(z)))"),
        ),
        (
            r"several draws",
            DECODER.format(
                forward="rows = z.transpose(0, 1).reshape(-1, M) if z.ndim == 3 else z\n"
                "        return self.last(F.relu(self.first(rows))).reshape(*z.shape[:-1], D)"
            ),
        ),
        (r"smooth", DECODER.format(forward="return self.last(F.gelu(self.first(z)))")),
        (
            r"no gradient flows from the result to z",
            DECODER.format(forward="return self.last(F.relu(self.first(z.detach())))"),
        ),
        (
            r"bounded",
            DECODER.format(forward="return torch.tanh(self.last(F.relu(self.first(z))))"),
        ),
        (r"affine", DECODER.format(forward="return self.last(self.first(z))")),
        (r"nothing \(None\)", DECODER.format(forward="self.last(F.relu(self.first(z)))")),
        (
            r"single row",
            DECODER.format(forward="return self.last(F.relu(self.first(z))).squeeze()"),
        ),
        (
            r"no gradient",
            DECODER.format(forward="return self.last(F.relu(self.first(z))).detach()"),
        ),
        (
            r"different results",
            DECODER.format(forward="return self.last(F.dropout(F.relu(self.first(z))))"),
        ),
        (
            r"no gradient reaches first",
            DECODER.format(forward="return self.last(F.relu(self.first(z)).detach())"),
        ),
        (
            r"tensor of torch|tuple",
            DECODER.format(forward="return self.last(F.relu(self.first(z))), z"),
        ),
        (
            r"shape",
            DECODER.format(forward="return self.last(F.relu(self.first(z))).view(-1, 1, 8, 8)"),
        ),
        (r"nn.Module is expected", f"net = {MLP}\nreturn lambda z: net(z)"),
        (r"LeakyReLU", "nn.Sequential(nn.Linear(M, H), nn.LeakyReLU(), nn.Linear(H, D))"),
        (r"leaky_relu", DECODER.format(forward="return self.last(F.leaky_relu(self.first(z)))")),
        (
            r"never changes its sign",
            "nn.Sequential(nn.Linear(M, H), nn.ReLU(), nn.Linear(H, D), nn.Softplus())",
        ),
        (
            r"40 units",
            DECODER.replace("H", "40").format(forward="return self.last(F.relu(self.first(z)))"),
        ),
    ],
    "binarise": [
        (r"row share", "(torch.rand(len(x), 1, x.shape[2], 1) < x).float()"),
        (r"image share", "(torch.rand(len(x), 1, 1, 1) < x).float()"),
        (r"equal images", "(torch.rand(1, 1, *x.shape[2:]) < x).float()"),
        (r"where is x", "(torch.rand_like(x) < 0.5).float()"),
        (r"changes the images", "x.bernoulli_(x)"),
        (r"bool", "torch.rand_like(x) < x"),
        (r"share of ones", "torch.bernoulli(x.square())"),
        (r"share of ones", "torch.bernoulli(0.9 * x)"),
        (r"share of ones", "torch.bernoulli(x.clamp(0.1, 0.9))"),
        (r"share of ones", "(x + 0.3 * torch.randn_like(x) > 0.5).float()"),
        ("", "(torch.rand(len(x), 1, 28, 28) < x).float()"),
        (r"take the arguments", "def answer(x, border):\n    return torch.bernoulli(x)"),
        (r"tensor of torch", "torch.bernoulli(x).numpy()"),
    ],
    "count_parameters": [
        (r"frozen", "sum(p.numel() for p in module.parameters() if p.requires_grad)"),
        (r"sides", "sum(sum(p.shape) for p in module.parameters())"),
        (r"first tensor", "next(module.parameters()).numel()"),
        (r"own parameters", "sum(p.numel() for m in module.children() for p in m.parameters())"),
        (r"biases\) are left out", "sum(p.numel() for p in module.parameters() if p.ndim > 1)"),
        (r"bytes", "sum(p.numel() * p.element_size() for p in module.parameters())"),
        ("", "sum(p.numel() for p in module.parameters()) // 1000 * 1000"),
    ],
    "count_convolutions": [
        (r"subclass", "sum(type(m) is nn.Conv2d for m in module.modules())"),
        (r"with weights", "sum(hasattr(m, 'weight') for m in module.modules())"),
        (
            r"parameters of",
            "sum(p.numel() for m in module.modules() if isinstance(m, nn.Conv2d) "
            "for p in m.parameters())",
        ),
        (r"four axes", "sum(p.ndim == 4 for p in module.parameters())"),
        (r"whole number", "[m for m in module.modules() if isinstance(m, nn.Conv2d)]"),
        (r"outermost", "sum(isinstance(m, nn.Conv2d) for m in module)"),
    ],
    "pair": [
        (
            r"no gradient",
            MODEL.format(prior=PRIOR, likelihood=LIKELIHOOD.replace("(z)", "(z).detach()")),
        ),
        (
            r"subsample_size",
            MODEL.replace("len(x))", "N, subsample_size=len(x))", 1).format(
                prior=PRIOR, likelihood=LIKELIHOOD
            ),
        ),
        (
            r"prior of z",
            MODEL.format(
                prior="dist.Normal(torch.ones(len(x), M), 1.0).to_event(1)", likelihood=LIKELIHOOD
            ),
        ),
        (
            r"prior of z",
            MODEL.format(
                prior="dist.Uniform(-9 * torch.ones(len(x), M), 9.0).to_event(1)",
                likelihood=LIKELIHOOD,
            ),
        ),
        (r"plate", MODEL.replace("len(x)", "N").format(prior=PRIOR, likelihood=LIKELIHOOD)),
        (r"to_event", MODEL.format(prior=PRIOR, likelihood="dist.Normal(decoder(z), 1.0)")),
        (
            r"latents are",
            "GUIDE:pyro.module('encoder', encoder)\nwith pyro.plate('data', len(x)):\n"
            "    pyro.sample('z', dist.Normal(encoder(x)[0], 1.0).to_event(1))\n"
            "    pyro.sample('w', dist.Normal(encoder(x)[0], 1.0).to_event(1))",
        ),
        (
            r"sees no data",
            MODEL.replace("'x', ", "'pixels', ").format(prior=PRIOR, likelihood=LIKELIHOOD),
        ),
        (
            r"train none|register",
            MODEL.replace("pyro.module('decoder', decoder)\n", "").format(
                prior=PRIOR, likelihood=LIKELIHOOD
            ),
        ),
    ],
}
