"""What a user waits for before anything happens: import and --help, as ratios to an empty interpreter in the same run."""

import statistics
import subprocess
import sys
import time

# On the machine of the first measurement an empty interpreter takes about 12 ms; 0.3 s and 0.5 s are 25 and 40 of them.
# The floor keeps an unusually quick empty interpreter from turning the limits into ones that nobody would notice.
EMPTY_FLOOR_SECONDS = 0.012


def seconds(code: str) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def test_import_and_help_are_quick_against_an_empty_interpreter():
    empty = max(seconds("pass"), EMPTY_FLOOR_SECONDS)
    assert seconds("import vitascope") <= 25 * empty
    assert seconds("from vitascope.cli.main import main; main(['--help'])") <= 40 * empty


def test_nothing_heavy_is_imported_until_used():
    code = (
        "import sys, vitascope\n"
        "from vitascope.cli.main import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'faiss', 'cv2', 'av', 'accelerate', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
