"""Names that options choose from, known without torch; tests hold them to the registries."""

OBJECTIVES = (
    "elbo",
    "elbo_analytic_kl",
    "elbo_enum",
    "elbo_free_bits",
    "stl",
    "iwae",
    "dreg",
    "renyi",
    "miselbo",
    "log_joint",
)
