"""A package of recipes: folders such as those of configs/, here recipes/ alone.

Its pyproject.toml offers them, and its package data has the files `*/*.yaml`:

    [project.entry-points."slicewise.recipes"]
    two_steps = "recipe"
"""
