"""Lai loss and its relatives on equal terms: tasks, methods, and what they cost in error for what they save in slope."""

from .methods import METHODS, Method
from .study import relatives_study
from .tasks import TASKS, Task

__all__ = ["METHODS", "TASKS", "Method", "Task", "relatives_study"]
