"""The benchmark: scenarios, their baselines in the same run, results and plots. See bench/README.md."""
