# SPDX-License-Identifier: MIT
"""Tells PyInstaller to collect the C library, which no import statement names, and data files.

PyInstaller reads the variables of this module. In the frozen program the library is in the folder
of the package, where `pyws._core.library` looks first, and that for TLS is beside it.
"""

import glob
import os

from PyInstaller.utils.hooks import collect_data_files, get_module_attribute

library = get_module_attribute("pyws", "library_path")
for_tls = sorted(glob.glob(os.path.join(os.path.dirname(library), "libpyws_openssl.so*")))[:1]
binaries = [(path, "pyws") for path in (library, *for_tls)]
datas = collect_data_files("pyws", includes=["*.html", "*.js"])
