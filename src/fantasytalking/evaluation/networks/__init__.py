"""The networks behind the metrics, one file a network: numpy in, numpy out, each loaded with ``load(path, device)``.

Their weights are listed in `fantasytalking.evaluation.networks.metric_weights`; docs/metric-networks.md says how each was checked
against its original.
"""
