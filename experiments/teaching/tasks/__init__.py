"""The tasks of the labs: what is right, and the mistakes that have a hint of their own."""

__all__: list[str] = []
