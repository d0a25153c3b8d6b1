"""How fast: measured, timed, plotted."""
