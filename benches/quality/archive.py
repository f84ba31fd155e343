"""An archive, unpacked for as long as it is looked at."""

import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unpacked(path):
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(path) as tar:
            # Nothing may land outside the folder; Pythons before 3.11.4 know no filter.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            tar.extractall(folder)
        yield Path(folder)
