"""Right answers to the labs, written in many ways: expressions, bodies of functions, classes."""

HEADS = """
class Heads(nn.Module):
    def __init__(self, data_dim, latent_dim, hidden_dim=400):
        super().__init__()
        self.{0} = nn.Linear(data_dim, hidden_dim)
        self.{1} = nn.Linear(hidden_dim, latent_dim)
        self.{2} = nn.Linear(hidden_dim, latent_dim)
    def forward(self, x):
        h = {3}(self.{0}(x))
        return self.{1}(h), self.{2}(h)
answer = Heads
"""
NET = """
class Net(nn.Module):
    def __init__(self, data_dim, latent_dim, hidden_dim=400):
        super().__init__()
        {init}
    def {name}(self, z):
        {forward}
{rest}
answer = Net
"""


def net(init, forward, name="forward", rest=""):
    """A class for a decoder or an encoder."""
    lines = "\n        ".join(init)
    return NET.format(init=lines, forward=forward, name=name, rest=rest)


RIGHT = {
    "pca": [
        "x.mean(0), torch.linalg.svd(x - x.mean(0), full_matrices=False)[2][:latent_dim].mT",
        "x.mean(axis=0), -torch.linalg.svd(x - x.mean(axis=0))[2].T[:, :latent_dim]",
        "c = x - x.mean(0)\nw, V = torch.linalg.eigh(c.T @ c)\nreturn x.mean(0), "
        "V.flip(1)[:, :latent_dim]",
        "w, V = torch.linalg.eigh(torch.cov(x.T))\n"
        "return x.sum(0) / len(x), V[:, w.argsort(descending=True)[:latent_dim]]",
        "c = (x - x.mean(0)).double()\nV = torch.linalg.svd(c, full_matrices=False).Vh[:l"
        "atent_dim].T"
        "\nreturn [x.mean(0), V.float().to(x.dtype)]",
        "mean = sum(row for row in x) / x.shape[0]\nU, S, V = torch.svd(x - mean)\n"
        "return mean, V[:, :latent_dim]",
        "c = (x - x.mean(0)).numpy()\nV = np.linalg.svd(c, full_matrices=False)[2]\n"
        "return x.mean(0), torch.from_numpy(V[:latent_dim].T.copy())",
        "c = x - x.mean(0)\nU, S, Vh = torch.linalg.svd(c.T, full_matrices=False)\n"
        "return x.mean(0), U[:, :latent_dim]",
    ],
    "pca_encoder": [
        "(x - mean) @ components",
        "torch.matmul(x - mean[None, :], components)",
        "x @ components - mean @ components",
        "torch.einsum('nd,dk->nk', x - mean, components)",
        "torch.stack([components.T @ (row - mean) for row in x])",
        "F.linear(x - mean, components.T)",
        "(components.T @ (x - mean).T).T",
        "((x - mean).unsqueeze(-1) * components).sum(1)",
    ],
    "pca_decoder": [
        "z @ components.mT + mean",
        "torch.einsum('nk,dk->nd', z, components) + mean.unsqueeze(0)",
        "F.linear(z, components, mean)",
        "torch.stack([mean + components @ row for row in z])",
        "(components @ z.T).T.add(mean)",
        "torch.addmm(mean, z, components.T)",
        "mean + sum(z[:, k, None] * components[:, k] for k in range(z.shape[1]))",
        "(z[:, None] * components).sum(-1) + mean",
    ],
    "squared_error": [
        "(x - reconstruction).square().sum(1).mean()",
        "((x - reconstruction) ** 2).sum() / len(x)",
        "torch.linalg.norm(x - reconstruction, dim=1).pow(2).mean()",
        "F.mse_loss(reconstruction, x, reduction='none').sum(-1).mean()",
        "((x - reconstruction) ** 2).mean() * x.shape[1]",
        "float((((x - reconstruction).numpy()) ** 2).sum(1).mean())",
        "d = x - reconstruction\nreturn torch.einsum('nd,nd->n', d, d).mean()",
        "sum(((x - reconstruction)[i] ** 2).sum() for i in range(len(x))) / x.size(0)",
    ],
    "ppca_cost": [
        "C = W @ W.T + log_variance.exp() * torch.eye(len(W))\nd = x - mu\n"
        "return torch.logdet(C) + torch.einsum('nd,de,ne->n', d, torch.inverse(C), d).mean()",
        "C = W @ W.T + log_variance.exp() * torch.eye(len(W))\n"
        "p = dist.MultivariateNormal(mu, C)\n"
        "return -2 * p.log_prob(x).mean() - mu.numel() * math.log(2 * math.pi)",
        "p = torch.distributions.LowRankMultivariateNormal(mu, W, log_variance.exp() * "
        "torch.ones(len(mu)))\n"
        "return -2 * p.log_prob(x).mean() - len(mu) * math.log(2 * torch.pi)",
        "v = torch.exp(log_variance)\nM_ = W.T @ W + v * torch.eye(W.shape[1])\nd = (x - mu).T\n"
        "Ci = (torch.eye(len(W)) - W @ torch.linalg.solve(M_, W.T)) / v\n"
        "return torch.slogdet(M_)[1] + (len(W) - len(M_)) * log_variance + "
        "(d * (Ci @ d)).sum() / d.shape[1]",
        "v = log_variance.exp()\nL = torch.linalg.cholesky(W.T @ W + v * torch.eye(W.shape[1]))\n"
        "d = x - mu\ne = torch.linalg.solve_triangular(L, (d @ W).T, upper=False)\n"
        "return 2 * L.diagonal().log().sum() + (len(mu) - W.shape[1]) * log_variance + "
        "((d ** 2).sum() - (e ** 2).sum()) / v / len(x)",
        "v = log_variance.exp()\nC = W @ W.T + v * torch.eye(len(W))\nd = x - mu\n"
        "S = d.T @ d / len(x)\nreturn torch.logdet(C) + torch.trace(torch.linalg.solve(C, S))",
    ],
    "posterior": [
        "v = log_variance.exp()\nm = torch.linalg.inv(W.T @ W + v * torch.eye(W.shape[1]))\n"
        "return (x - mu) @ W @ m, v * m",
        "m = W.T @ W + log_variance.exp() * torch.eye(W.shape[1])\n"
        "return torch.linalg.solve(m, W.T @ (x - mu).T).T, log_variance.exp() * torch.inverse(m)",
        "C = W @ W.T + log_variance.exp() * torch.eye(len(W))\ng = W.T @ torch.inverse(C)\n"
        "return (x - mu) @ g.T, torch.eye(W.shape[1]) - g @ W",
        "p = W.T @ W * torch.exp(-log_variance) + torch.eye(W.shape[1])\n"
        "c = torch.cholesky_inverse(torch.linalg.cholesky(p))\n"
        "return torch.exp(-log_variance) * (x - mu) @ W @ c, c",
        "v = log_variance.exp()\nm = W.T @ W + v * torch.eye(W.shape[1])\n"
        "mean = torch.stack([torch.linalg.solve(m, W.T @ (row - mu)) for row in x])\n"
        "return [mean, torch.linalg.solve(m, v * torch.eye(len(m)))]",
        "p = torch.eye(W.shape[1]) + W.T @ W / log_variance.exp()\ncov = p.inverse()\n"
        "mean = torch.einsum('kl,dl,nd->nk', cov, W, x - mu) / log_variance.exp()\n"
        "return mean, cov",
    ],
    "ppca_decoder": [
        "z @ W.mT + mu",
        "F.linear(z, W, mu)",
        "torch.einsum('dk,nk->nd', W, z) + mu",
        "(W @ z.T + mu[:, None]).T",
        "torch.stack([W @ row + mu for row in z])",
        "torch.addmm(mu, z, W.T)",
    ],
    "draw_latents": [
        "temperature * torch.randn(count, latent_dim)",
        "torch.randn(count, latent_dim) * temperature",
        "torch.normal(0.0, temperature * torch.ones(count, latent_dim))",
        "dist.Normal(torch.zeros(count, latent_dim), temperature).sample()",
        "torch.distributions.Normal(0.0, temperature).sample((count, latent_dim))",
        "dist.MultivariateNormal(torch.zeros(latent_dim), temperature**2 * torch.eye(latent_dim))"
        ".sample((count,))",
        "torch.stack([temperature * torch.randn(latent_dim) for _ in range(count)])",
        "torch.empty(count, latent_dim).normal_(0, temperature)",
        "u = torch.rand(count, latent_dim).clamp(1e-6, 1 - 1e-6)\n"
        "return temperature * torch.special.ndtri(u)",
    ],
    "log_likelihood": [
        "dist.Normal(decoder(z).unsqueeze(1), (log_variance / 2).exp()).log_prob(x).sum(-1)",
        "dist.Normal(decoder(z)[:, None], log_variance.exp().sqrt()).to_event(1).log_prob(x)",
        "m = decoder(z)\nd = x.shape[1]\nsq = torch.cdist(m, x) ** 2\n"
        "return -d / 2 * (math.log(2 * math.pi) + log_variance) - sq / 2 / log_variance.exp()",
        "m = decoder(z)\nsq = (x**2).sum(1)[None] - 2 * m @ x.T + (m**2).sum(1)[:, None]\n"
        "return -0.5 * (x.shape[1] * (log_variance + math.log(2 * math.pi)) + sq / "
        "log_variance.exp())",
        "rows = [dist.Normal(decoder(one), torch.exp(log_variance / 2)).to_event(1).log_prob(x) "
        "for one in z]\nreturn torch.stack(rows)",
        "c = log_variance.exp() * torch.eye(x.shape[1])\n"
        "return dist.MultivariateNormal(decoder(z)[:, None, :], c).log_prob(x[None])",
        "d = (x[None] - decoder(z)[:, None]) / (0.5 * log_variance).exp()\n"
        "return (-0.5 * d.pow(2) - 0.5 * log_variance - 0.5 * math.log(2 * torch.pi)).sum(2)",
    ],
    "monte_carlo_likelihood": [
        "log_p.logsumexp(0) - math.log(len(log_p))",
        "torch.logsumexp(log_p, dim=0) - torch.log(torch.tensor(float(log_p.shape[0])))",
        "torch.logsumexp(log_p + math.log(1 / len(log_p)), 0)",
        "top = log_p.max(0, keepdim=True).values\n"
        "return (top + (log_p - top).exp().mean(0, keepdim=True).log()).squeeze(0)",
        "torch.stack([c.logsumexp(0) - math.log(len(c)) for c in log_p.T])",
        "total = log_p[0]\nfor row in log_p[1:]:\n    total = torch.logaddexp(total, row)\n"
        "return total - np.log(len(log_p))",
        "top = log_p.amax(0).detach()\nreturn top + torch.log(torch.mean(torch.exp(log_p "
        "- top), 0))",
    ],
    "kl": [
        "0.5 * (log_variance.exp() + loc.square() - 1 - log_variance).sum(-1)",
        "-0.5 * torch.sum(1 + log_variance - loc.pow(2) - log_variance.exp(), dim=1)",
        "q = dist.Normal(loc, log_variance.mul(0.5).exp()).to_event(1)\n"
        "return torch.distributions.kl_divergence(q, dist.Normal(loc * 0, 1.0).to_event(1))",
        "q = dist.MultivariateNormal(loc, log_variance.exp().diag_embed())\n"
        "p = dist.MultivariateNormal(torch.zeros_like(loc), torch.eye(loc.shape[1]))\n"
        "return torch.distributions.kl_divergence(q, p)",
        "0.5 * (torch.expm1(log_variance) - log_variance + loc**2).sum(1)",
        "s = (log_variance / 2).exp()\nreturn (0.5 * (s * s + loc * loc - 1) - s.log()).sum(1)",
        "v = log_variance.exp()\nreturn 0.5 * (v.sum(1) + (loc * loc).sum(1) - loc.size(1) - "
        "torch.log(v.prod(1)))",
        "0.5 * (log_variance.exp() + loc.square() - 1 - log_variance).relu().sum(-1)",
        "torch.stack([0.5 * (torch.exp(v) + m**2 - 1 - v).sum() for m, v in "
        "zip(loc, log_variance)])",
    ],
    "reparametrise": [
        "loc + (log_variance / 2).exp() * noise",
        "loc + torch.exp(0.5 * log_variance) * noise",
        "noise * log_variance.exp().sqrt() + loc",
        "torch.addcmul(loc, log_variance.exp() ** 0.5, noise)",
        "loc.add(noise.mul(log_variance.div(2).exp()))",
        "L = (log_variance / 2).exp().diag_embed()\n"
        "return loc + (L @ noise.unsqueeze(-1)).squeeze(-1)",
        "t = torch.distributions.AffineTransform(loc, (log_variance / 2).exp())\nreturn t(noise)",
    ],
    "elbo": [
        "z = loc + (log_variance / 2).exp() * noise\n"
        "fit = dist.Normal(decoder(z), (log_pixel_variance / 2).exp()).log_prob(x).sum(-1)\n"
        "return (fit - 0.5 * (log_variance.exp() + loc**2 - 1 - log_variance).sum(1)).mean()",
        "z = loc + torch.exp(0.5 * log_variance) * noise\n"
        "q, p = dist.Normal(loc, torch.exp(0.5 * log_variance)), dist.Normal(torch.zeros_"
        "like(z), 1.0)"
        "\nfit = dist.Normal(decoder(z), log_pixel_variance.exp().sqrt()).log_prob(x).sum()\n"
        "return (fit + p.log_prob(z).sum() - q.log_prob(z).sum()) / len(x)",
        "z = loc + log_variance.exp().sqrt() * noise\nD_ = x.shape[1]\n"
        "fit = -0.5 * D_ * (math.log(2 * math.pi) + log_pixel_variance) - "
        "(x - decoder(z)).pow(2).sum(1) / log_pixel_variance.exp() / 2\n"
        "return torch.mean(fit + 0.5 * (1 + log_variance - loc**2 - log_variance.exp()).sum(1))",
        "z = noise * (log_variance / 2).exp() + loc\n"
        "fit = dist.Normal(decoder(z), (log_pixel_variance / 2).exp()).to_event(1).log_prob(x)\n"
        "q = dist.Normal(loc, (log_variance / 2).exp()).to_event(1)\n"
        "prior = dist.Normal(torch.zeros_like(loc), 1.0).to_event(1)\n"
        "return (fit.sum() - torch.distributions.kl_divergence(q, prior).sum()) / x.shape[0]",
        "q = dist.Normal(loc, (log_variance / 2).exp())\nz = loc + q.scale * noise\n"
        "p = dist.Normal(decoder(z), (log_pixel_variance / 2).exp())\n"
        "log_joint = p.log_prob(x).sum(1) + dist.Normal(0.0, 1.0).log_prob(z).sum(1)\n"
        "return (log_joint + q.entropy().sum(1)).mean()",
        "total = 0\nfor i in range(len(x)):\n"
        "    z = loc[i] + (log_variance[i] / 2).exp() * noise[i]\n"
        "    p = dist.Normal(decoder(z[None])[0], (log_pixel_variance / 2).exp())\n"
        "    total = total + p.log_prob(x[i]).sum() - 0.5 * (log_variance[i].exp() "
        "+ loc[i] ** 2 - 1 "
        "- log_variance[i]).sum()\nreturn total / len(x)",
    ],
    "encoder": [
        HEADS.format("fc1", "fc21", "fc22", "torch.relu"),
        HEADS.format("hidden", "mu", "logvar", "F.relu"),
        HEADS.format("input_layer", "mean_head", "variance_head", "nn.ReLU()"),
        net(
            [
                "self.net = nn.Sequential(nn.Linear(data_dim, hidden_dim), nn.ReLU(), "
                "nn.Linear(hidden_dim, 2 * latent_dim))",
                "self.M = latent_dim",
            ],
            "h = self.net(z); return h[..., :self.M], h[..., self.M:]",
        ),
        net(
            [
                "self.trunk = nn.Sequential(nn.Linear(data_dim, hidden_dim), nn.ReLU())",
                "self.heads = nn.ModuleDict({k: nn.Linear(hidden_dim, latent_dim) for k in 'ms'})",
            ],
            "h = self.trunk(z); return [self.heads['m'](h), self.heads['s'](h)]",
        ),
        net(
            [
                "self.layers = nn.ModuleList([nn.Linear(data_dim, hidden_dim), "
                "nn.Linear(hidden_dim, 2 * latent_dim)])"
            ],
            "return self.layers[1](self.layers[0](z).clamp(min=0)).split(self.layers[1]."
            "out_features // 2, dim=1)",
        ),
        net(
            [
                "self.W1 = nn.Parameter(torch.randn(data_dim, hidden_dim) / data_dim**0.5)",
                "self.b1 = nn.Parameter(torch.zeros(hidden_dim))",
                "self.W2 = nn.Parameter(torch.randn(hidden_dim, 2 * latent_dim) "
                "/ hidden_dim**0.5)",
                "self.b2 = nn.Parameter(torch.zeros(2 * latent_dim))",
            ],
            "return (torch.relu(z @ self.W1 + self.b1) @ self.W2 + self.b2).chunk(2, dim=-1)",
        ),
        net(
            [
                "def mlp(): return nn.Sequential(nn.Linear(data_dim, hidden_dim), nn.ReLU(), "
                "nn.Linear(hidden_dim, latent_dim))",
                "self.mean, self.log_var = mlp(), mlp()",
            ],
            "return self.mean(z), self.log_var(z)",
        ),
        net(
            [
                "self.a = nn.Linear(data_dim, hidden_dim)",
                "self.b = nn.Linear(hidden_dim, 2 * latent_dim)",
            ],
            "return self.b(F.relu(self.a(z))).unflatten(-1, (2, -1)).unbind(-2)",
        ),
        net(
            [
                "self.a = nn.Linear(data_dim, hidden_dim)",
                "self.mu, self.s = (nn.Linear(hidden_dim, latent_dim) for _ in range(2))",
                "for p in self.s.parameters(): nn.init.zeros_(p)",
            ],
            "h = F.relu(self.a(z)); return self.mu(h), self.s(h)",
        ),
    ],
    "decoder": [
        "nn.Sequential(nn.Linear(latent_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim"
        ", data_dim))",
        net(
            [
                "self.fc3 = nn.Linear(latent_dim, hidden_dim)",
                "self.fc4 = nn.Linear(hidden_dim, data_dim)",
            ],
            "return self.fc4(F.relu(self.fc3(z)))",
        ),
        net(
            [
                "self.input, self.output = nn.Linear(latent_dim, hidden_dim), "
                "nn.Linear(hidden_dim, data_dim)",
                "self.act = nn.ReLU()",
            ],
            "return self.output(self.act(self.input(z)))",
        ),
        net(
            [
                "self.layers = nn.ModuleList([nn.Linear(latent_dim, hidden_dim), "
                "nn.Linear(hidden_dim, data_dim)])"
            ],
            "return self.layers[1](torch.relu(self.layers[0](z)))",
        ),
        net(
            [
                "self.W = nn.Parameter(torch.randn(latent_dim, hidden_dim))",
                "self.b = nn.Parameter(torch.randn(hidden_dim))",
                "self.V = nn.Parameter(torch.randn(hidden_dim, data_dim) / hidden_dim**0.5)",
                "self.c = nn.Parameter(torch.zeros(data_dim))",
            ],
            "return torch.clamp(z @ self.W + self.b, min=0) @ self.V + self.c",
        ),
        net(
            [
                "self.net = nn.ModuleDict({'hidden': nn.Linear(latent_dim, hidden_dim), "
                "'pixels': nn.Linear(hidden_dim, data_dim)})"
            ],
            "return self.net['pixels'](F.threshold(self.net['hidden'](z), 0.0, 0.0))",
        ),
        "from collections import OrderedDict\n"
        "return nn.Sequential(OrderedDict(lift=nn.Linear(latent_dim, hidden_dim), "
        "bend=nn.ReLU(inplace=True), paint=nn.Linear(hidden_dim, data_dim)))",
        net(
            [
                "self.first = nn.Sequential(nn.Linear(latent_dim, hidden_dim), nn.ReLU())",
                "self.second = nn.Linear(hidden_dim, data_dim)",
            ],
            "h = self.first(z.reshape(-1, z.shape[-1])); "
            "return self.second(h).reshape(*z.shape[:-1], -1)",
        ),
        net(
            [
                "self.into = nn.Linear(latent_dim, hidden_dim)",
                "self.out_of = nn.Linear(hidden_dim, data_dim)",
            ],
            "h = F.relu(self.into(z.view(-1, z.shape[-1]))); "
            "return self.out_of(h).view(*z.shape[:-1], -1)",
        ),
        net(
            [
                "self.proj = nn.LazyLinear(hidden_dim)",
                "self.out = nn.LazyLinear(data_dim)",
                "self.forward(torch.zeros(1, latent_dim))",
            ],
            "return self.out(torch.maximum(self.proj(z), torch.zeros(())))",
        ),
    ],
    "binarise": [
        "torch.bernoulli(x)",
        "(torch.rand_like(x) < x).float()",
        "out = torch.zeros_like(x)\nout[torch.rand(x.shape) < x] = 1\nreturn out",
        "dist.Bernoulli(probs=x).sample()",
        "torch.distributions.Bernoulli(x).sample()",
        "torch.binomial(torch.ones_like(x), x)",
        "x.clone().bernoulli_(x)",
    ],
    "count_parameters": [
        "sum(p.numel() for p in module.parameters())",
        "sum(math.prod(p.shape) for _, p in module.named_parameters())",
        "torch.nn.utils.parameters_to_vector(module.parameters()).numel()",
        "total = 0\nfor p in module.parameters():\n    total += p.nelement()\nreturn total",
        "int(np.sum([np.prod(p.shape) for p in module.parameters()]))",
        "sum(map(torch.numel, module.parameters()))",
    ],
    "count_convolutions": [
        "sum(isinstance(m, nn.Conv2d) for m in module.modules())",
        "len([m for m in module.modules() if isinstance(m, torch.nn.Conv2d)])",
        "sum(isinstance(m, nn.Conv2d) for _, m in module.named_modules())",
        "found = set()\ndef walk(m):\n    if isinstance(m, nn.Conv2d): found.add(id(m))\n"
        "    for c in m.children(): walk(c)\nwalk(module)\nreturn len(found)",
        "len(list(filter(lambda m: issubclass(type(m), nn.Conv2d), module.modules())))",
    ],
}
