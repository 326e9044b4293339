"""A long listing over HTTP, where each request takes 80 ms: ours, which asks for several pages at once, beside `pydo`, page by page.

Run by `make bench`, or `python benchmarks/fetch.py [NUMBER OF DROPLETS]`. The provider is a server on loopback in a process of its own,
whose pages are ready and whose limits are far away. Each side runs in a process of its own as well: its peak of memory is its own.
"""

import asyncio
import json
import resource
import subprocess
import sys
import time
from urllib.parse import parse_qs

import uvicorn

from benchmarks.reconcile import Pages, droplet, pages_of
from benchmarks.table import Row, judged, middle, show

ROUNDS, LATENCY, TOKEN = 3, 0.08, "dop_v1_benchmark"
LIMITS = [(b"ratelimit-limit", b"1000000"), (b"ratelimit-remaining", b"999999"), (b"content-type", b"application/json")]


def serve(count: int) -> None:
    """The server: prints its port, then answers until its input ends."""
    pages: Pages = pages_of([droplet(number) for number in range(count)])

    async def app(scope, _receive, send):  # type: ignore[no-untyped-def]
        began = time.monotonic()
        page = int(parse_qs(scope["query_string"].decode()).get("page", ["1"])[0])
        body = pages[page - 1]
        await asyncio.sleep(LATENCY - (time.monotonic() - began))
        await send({"type": "http.response.start", "status": 200, "headers": [*LIMITS, (b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    async def run() -> None:
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off", access_log=False))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await serving

    asyncio.run(run())


def ours(url: str) -> int:
    """All droplets by our client; how many."""
    from arcadia_dagster.digitalocean.client import Client

    with Client(TOKEN, base_url=url) as client:
        listing = client.list("/v2/droplets", "droplets", kind="droplet")
        assert listing.error is None, listing.error
        return len(listing.items)


def pydo(url: str) -> int:
    """All droplets by pydo, as its documentation reads a list that has pages; how many."""
    from azure.core.pipeline.policies import HeadersPolicy
    from pydo import Client

    # pydo sends its token over https only, so the header is set by a policy of its own.
    policy = HeadersPolicy({"Authorization": f"Bearer {TOKEN}"})
    client, found, page = Client("unused", endpoint=url, authentication_policy=policy), [], 1
    while True:
        reply = client.droplets.list(per_page=200, page=page)
        found += reply["droplets"]
        if not reply["links"].get("pages", {}).get("next"):
            return len(found)
        page += 1


def one(name: str, url: str) -> None:
    """Run one side and print what it took."""
    began = time.perf_counter()
    found = {"ours": ours, "pydo": pydo}[name](url)
    took = time.perf_counter() - began
    print(json.dumps([found, took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def child(*arguments: str) -> tuple[int, float, float]:
    """Items, seconds and peak megabytes of a side in its own process."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.fetch", *arguments], check=True, capture_output=True, text=True)
    found, took, peak = json.loads(done.stdout)
    return found, took, peak


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["serve"]:
        return serve(int(sys.argv[2]))
    if sys.argv[1:2] in (["ours"], ["pydo"]):
        return one(*sys.argv[1:3])
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.fetch", "serve", str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(server.stdout.readline())}"
    try:
        pairs = [(child("ours", url), child("pydo", url)) for _ in range(ROUNDS)]
    finally:
        server.communicate("")
    assert all(found == count for pair in pairs for found, _, _ in pair)
    (_, own, own_peak), (_, other, other_peak) = middle(pairs, lambda pair: pair[1][1] / pair[0][1])
    title = f"fetch: {count:,} droplets, {LATENCY * 1000:.0f} ms a request; the middle of {ROUNDS} pairs by their ratio"
    rows = [
        Row("all of them", f"{own:.1f} s", f"pydo {other:.1f} s", f"{LATENCY:.2f} s", f"peer/ours {judged(other / own, least=7)}"),
        Row("peak memory", f"{own_peak:.0f} MB", f"pydo {other_peak:.0f} MB", "", f"peer/ours {judged(other_peak / own_peak)}"),
    ]
    show(title, rows)
    return None


if __name__ == "__main__":
    main()
