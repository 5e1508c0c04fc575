"""What is shipped: the image, the chart, the compose file, the wheel and their locks."""
