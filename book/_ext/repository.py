"""The buttons that lead to the repository and to a running copy of a chapter, where the address of the repository is configured.

The theme makes links that lead nowhere, or fails, if they are asked for and there is no address.
"""

from sphinx.application import Sphinx
from sphinx.config import Config


def drop_buttons(app: Sphinx, config: Config) -> None:
    options = config.html_theme_options
    if not options.get("repository_url"):
        options.update(use_repository_button=False, launch_buttons={})


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", drop_buttons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
