"""What can be wrong with a raw line: the codes the kernels give, and how they are told."""

from __future__ import annotations

FINE, COLUMNS, SAMPLE_ID, CLICK, CONVERSION, INDEX, FEATURE_NUM = range(7)
FEATURE, ID, VALUE, COUNT, ENCODING, UNKNOWN = range(7, 13)

REASONS = {  # what the summary counts it as, and the reason with the two details
    COLUMNS: ("columns", "the number of columns is {0}, not {1}"),
    SAMPLE_ID: ("sample_id", "sample_id is empty"),
    CLICK: ("label", "click is not 0 or 1"),
    CONVERSION: ("label", "conversion is not 0 or 1"),
    INDEX: ("common_feature_index", "common_feature_index is not 1 to 16 hex digits"),
    FEATURE_NUM: ("feature_num", "feature_num is not a whole number"),
    COUNT: ("feature_num", "feature_num says {0}, the list has {1}"),
    FEATURE: ("feature", "feature {0} is not a field, an id and a value"),
    ID: ("id", "the id of feature {0} is not a whole number of at most 18 digits"),
    VALUE: ("value", "the value of feature {0} is not a number"),
    ENCODING: ("encoding", "the line is not UTF-8"),
    UNKNOWN: ("unknown common_feature_index", "common_feature_index is not in the common features file"),
}
