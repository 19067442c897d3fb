"""A Ray of the tests' own on this machine: ``python -m ray_clusters CPUS`` prints its address."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "tests-and-nobody-else-" + "0" * 42


def environment():
    """Of processes that take part in the cluster: where modules are, and its token."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
    }


@contextmanager
def running_cluster(cpus):
    """Its address, HOST:PORT."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "ray_clusters", str(cpus)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
        text=True,
    ) as process:
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.stdin.close()


def main():
    from fog_node.workers.ray_cluster import connect
    from fog_node.workers.ray_reaper import swept_folder
    from fog_node.workers.ray_settings import RaySettings

    with swept_folder() as folder:
        ray = connect(RaySettings(), workers=int(sys.argv[1]), folder=folder)
        print(ray.get_runtime_context().gcs_address, flush=True)
        sys.stdin.read()
        ray.shutdown()


if __name__ == "__main__":
    main()
