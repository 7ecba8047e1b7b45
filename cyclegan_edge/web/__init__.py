"""The live picture on a page in a browser, for devices without a screen. Needs `pip install 'cyclegan-edge[web]'`."""
