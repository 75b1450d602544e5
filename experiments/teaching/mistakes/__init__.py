"""Tables of usual mistakes, with their hints, of the tasks that have many."""

__all__: list[str] = []
