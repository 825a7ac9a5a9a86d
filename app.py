"""The entry point of the Space, and of `make app`."""

from wsolviz.ui.app import launch

if __name__ == "__main__":
    launch()
