"""What the losses of other toolkits in fact compute, judged by `fdistill.verify`; skipped where a toolkit is absent."""
