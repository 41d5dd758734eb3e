"""RAPO (arXiv 2602.04224) as a Ray-distributed, RLHF-style service."""
