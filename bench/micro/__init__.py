"""Measurements of single parts, which look inside where the benchmark stays outside."""
