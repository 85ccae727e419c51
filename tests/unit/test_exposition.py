"""The text for Prometheus: each metric once, as the docs have it, and whatever a label holds."""

from pathlib import Path

from appliance.metrics.exposition import text
from appliance.metrics.families import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_each_metric_is_in_the_docs_as_it_is_in_the_code():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `appliance_")]
    assert rows == [
        f"| `appliance_{each.name}` | {each.kind} | "
        f"{', '.join(f'`{label}`' for label in each.labels)} | {each.help} |"
        for each in FAMILIES
    ]


def test_names_are_as_prometheus_wants_them():
    names = [each.name for each in FAMILIES]
    assert len(set(names)) == len(names)
    for each in FAMILIES:
        assert each.name.endswith("_total") == (each.kind == "counter")


def test_metric_without_values_is_left_out():
    assert text({}) == ""
    assert text({"topics": {(): 3}}) == (
        "# HELP appliance_topics Topics in the database\n"
        "# TYPE appliance_topics gauge\n"
        "appliance_topics 3\n"
    )


def test_values_of_an_earlier_version_with_other_labels_or_buckets_are_left_out():
    assert "\nappliance_topics" not in text({"topics": {("old",): 3}})
    assert "_bucket" not in text({"store_lag_seconds": {(): [1, 2, 0.5]}})
    assert text({"gone_total": {(): 1}}) == ""


def test_label_can_hold_anything():
    shown = text({"process_up": {('a"b\\c\nd',): 1}})
    assert 'appliance_process_up{process="a\\"b\\\\c\\nd"} 1\n' in shown


def test_histogram_counts_up_and_ends_at_infinity():
    lines = text({"store_lag_seconds": {(): [1, 2, *[0] * 15, 4, 0.5]}}).splitlines()[2:]
    assert lines[0] == 'appliance_store_lag_seconds_bucket{le="0.001"} 1'
    assert lines[1] == 'appliance_store_lag_seconds_bucket{le="0.0025"} 3'
    assert lines[-3:] == [
        'appliance_store_lag_seconds_bucket{le="+Inf"} 7',
        "appliance_store_lag_seconds_sum 0.5",
        "appliance_store_lag_seconds_count 7",
    ]
