"""Figures of the book. The only folder that imports matplotlib; import it by name.

Every function draws into Axes that the chapter has made and returns None, so that a cell ends without an
address. Lines differ by dash pattern as well as by colour: they must be told apart in grey and with dark
colours inverted.
"""

from .boundary import factor_curve, pulls
from .compact import compact_table, feature_table
from .coupling import kept_by_lam, slopes_by_feature, unit_slopes
from .curves import change_by_slope, fitted, fitted_panels, switching, tangents
from .directions import boundaries, factor_contours, list_effects, slope_map, triangles, worst_change
from .exchange import exchanges
from .experiments import paired_dots, swing, trade_off, validation_curves
from .explorer import explorer_data, paper_changes, sweep_changes, sweep_panels
from .geometry import branches, triangle, triangle_on_curve, turned_axes
from .lines import basins, descents, line_contours, line_surface_3d, plane_contours
from .losses import coefficient_paths, losses_and_pulls, risks, roughness, shrinkage, sum_and_product
from .noise import noise_ratios, price_of_calm, sensitivity_dots
from .one_feature import outputs_against, outputs_by_arm
from .relatives import fronts
from .robustness import spreads
from .search import recipes_map
from .strength import frontier, plane
from .style import COLOURS, DASHES, legend_above, legend_row, mark_reader, shared_legend, use_style

__all__ = [
    "COLOURS",
    "DASHES",
    "basins",
    "boundaries",
    "branches",
    "change_by_slope",
    "coefficient_paths",
    "compact_table",
    "descents",
    "exchanges",
    "explorer_data",
    "factor_contours",
    "factor_curve",
    "feature_table",
    "fitted",
    "fitted_panels",
    "frontier",
    "fronts",
    "kept_by_lam",
    "legend_above",
    "legend_row",
    "line_contours",
    "line_surface_3d",
    "list_effects",
    "losses_and_pulls",
    "mark_reader",
    "noise_ratios",
    "outputs_against",
    "outputs_by_arm",
    "paired_dots",
    "paper_changes",
    "plane",
    "plane_contours",
    "price_of_calm",
    "pulls",
    "recipes_map",
    "risks",
    "roughness",
    "sensitivity_dots",
    "shared_legend",
    "shrinkage",
    "slope_map",
    "slopes_by_feature",
    "spreads",
    "sum_and_product",
    "sweep_changes",
    "sweep_panels",
    "swing",
    "switching",
    "tangents",
    "trade_off",
    "triangle",
    "triangle_on_curve",
    "triangles",
    "turned_axes",
    "unit_slopes",
    "use_style",
    "validation_curves",
    "worst_change",
]
