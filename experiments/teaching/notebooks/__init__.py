"""The labs' notebooks: one source each, a version for students and one for teachers."""
