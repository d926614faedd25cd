"""Calls and commands that use whole models: masks for boxes that another detector found."""
