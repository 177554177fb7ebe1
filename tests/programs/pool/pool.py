"""Make thumbnails in a pool of workers: ``pool.py fork|spawn|threads WORKERS IMAGE...``, a saga an image."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from sagadsl import saga, step


def remove(path=None, *, image):
    Path("thumbnails", image).unlink(missing_ok=True)


@step(compensate=remove)
def shrink(image: str) -> Path:
    path = Path("thumbnails", image)
    path.write_bytes(Path("images", image).read_bytes()[:4])
    return path


@step(compensate=None)
def register(image: str, path: Path) -> None:
    if image.startswith("broken"):
        raise ValueError(f"{image} is no image")
    Path("catalogue").mkdir(exist_ok=True)
    Path("catalogue", image).write_text(str(path))


@saga(key="{image}")
def thumbnail(image: str) -> Path:
    path = shrink(image)
    register(image, path)
    return path


def main(kind, workers, images):
    Path("thumbnails").mkdir(exist_ok=True)
    if kind == "threads":
        pool = ThreadPoolExecutor
    else:
        pool = partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context(kind))
    failed = 0
    with pool(workers) as executor:
        for image, job in [(image, executor.submit(thumbnail, image)) for image in images]:
            try:
                print(image, job.result())
            except ValueError as error:
                print(image, error)
                failed += 1
    return failed


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
