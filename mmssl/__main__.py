"""`python -m mmssl` is `mmssl`, for launchers that start modules: `torchrun --nproc-per-node 2 -m mmssl train CONFIG`."""

from mmssl.cli import main

if __name__ == "__main__":
    main()
