"""HiCo, hierarchical consistency on untrimmed video (Qing et al., CVPR 2022), with SimCLR and CVRL beside it."""
