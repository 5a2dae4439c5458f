"""Time and memory against the number of nodes: how analysis, clean-up and a cut grow.

    python3 benches/growth.py target/release/onnx-prune [--nodes 1000,10000,100000] [--kinds relu,conv,...] [--limit 120]

Models come from growth_models.py, which needs the Python packages onnx and numpy, in a process of its own: a process counts
the peak memory of the one that started it as its own. Prints a Markdown table: for each kind of graph and number of nodes (operands, for
sum and concat; calls, for function) the seconds and the peak megabytes of `inspect`, `clean`, and a cut of 30 % of the
parameters by random scores without running the model. With --verify also those of `verify` of the model against itself, in tract.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

MAKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "growth_models.py")


def measure(command, limit):
    """Seconds and peak megabytes of a command, or why there are none."""
    start = time.time()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while True:
        done, status, usage = os.wait4(child.pid, os.WNOHANG)
        seconds = time.time() - start
        if done:
            code = os.waitstatus_to_exitcode(status)
            shown = f"{seconds:.2f} s {usage.ru_maxrss / 1024:.0f} MB"
            return shown if code in (0, 1) else f"exit {code}"
        if seconds > limit:
            child.kill()
            os.wait4(child.pid, 0)
            return f"> {limit} s"
        time.sleep(0.005)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("binary")
    arguments.add_argument("--nodes", default="1000,10000,100000")
    arguments.add_argument("--kinds", default="relu,dynamic,matmul,equal,conv,sum,concat,function,reshape")
    arguments.add_argument("--limit", type=float, default=120)
    arguments.add_argument("--verify", action="store_true", help="make the model ready and run it too")
    options = arguments.parse_args()
    columns = ["graph", "nodes", "file", "inspect", "clean", "cut"] + ["verify"] * options.verify
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model, out = os.path.join(folder, "m.onnx"), os.path.join(folder, "o.onnx")
        for kind in options.kinds.split(","):
            for count in map(int, options.nodes.split(",")):
                subprocess.run([sys.executable, MAKER, kind, str(count), model], check=True)
                commands = [
                    ["inspect", model, "-q"],
                    ["clean", model, "-o", out, "-q"],
                    [model, "-o", out, "-q", "--score", "random", "--target", "params=0.7", "--no-verify", "--force"],
                ]
                if options.verify:
                    commands.append(["verify", model, model, "-q", "--runtime", "tract"])
                results = [measure([options.binary] + command, options.limit) for command in commands]
                size = os.path.getsize(model) / 1e6
                print(f"| {kind} | {count} | {size:.1f} MB | {' | '.join(results)} |", flush=True)


if __name__ == "__main__":
    main()
