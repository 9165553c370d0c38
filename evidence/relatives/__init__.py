"""Lai loss and its relatives on equal terms: tasks, methods, and what they cost in error for what they save in slope."""

from .methods import METHODS, Method
from .tasks import TASKS, Task
from .training import relatives_study

__all__ = ["METHODS", "TASKS", "Method", "Task", "relatives_study"]
