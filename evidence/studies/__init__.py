"""Small studies of one question each: lines, curves, curvature, coupled samples, the cost of a step."""
