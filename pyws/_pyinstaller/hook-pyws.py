"""Tells PyInstaller to collect the C library, which no import statement names, and data files.

PyInstaller reads the variables of this module. In the frozen program the library is in the folder
of the package, where `pyws._core.library` looks first.
"""

from PyInstaller.utils.hooks import collect_data_files, get_module_attribute

binaries = [(get_module_attribute("pyws", "library_path"), "pyws")]
datas = collect_data_files("pyws", includes=["*.html", "*.js"])
