"""The official Python SDK as an agent's client: two machines, each a real process of the built program.

usage: two_machines.py PROGRAM
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile

from mcp import Client

# How long anything may take that takes milliseconds on an idle machine.
DEADLINE_S = 60

# How the SDK is told which revision to speak, and which one comes of it.
MODES = {"legacy": "2025-11-25", "2026-07-28": "2026-07-28", "auto": "2026-07-28"}


class Node:
    """A `taskmesh serve` process on a data folder of its own; leaving the context ends it."""

    def __init__(self, program, folder, *arguments):
        self.program = program
        self.env = os.environ | {"TASKMESH_DATA_DIR": folder, "XDG_CACHE_HOME": os.path.join(folder, "cache")}
        self.env.pop("RUST_LOG", None)
        self.command = ["serve", "--json", "--http", "127.0.0.1:0", "--p2p-listen", "/ip4/127.0.0.1/tcp/0", *arguments]

    def __enter__(self):
        self.process = subprocess.Popen(
            [self.program, *self.command], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.command}: no ready line, exit code {self.process.wait()}")
        self.ready = json.loads(line)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()

    @property
    def url(self):
        return self.ready["http"]

    @property
    def peer_id(self):
        return self.ready["peer_id"]

    def run(self, *arguments):
        """A command on the node's folder, for its JSON answer."""
        command = [self.program, *arguments, "--json"]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
        return json.loads(done.stdout)


class Agent:
    """A client, and what its tool calls answer."""

    def __init__(self, client):
        self.client = client

    async def call(self, tool, **arguments):
        result = await self.client.call_tool(tool, arguments)
        answer = result.structured_content
        assert answer["ok"] is not result.is_error, (tool, result)
        # The text is for models whose client shows them nothing else.
        assert json.loads(result.content[0].text) == answer, (tool, result)
        return answer

    async def ask(self, tool, **arguments):
        """A call that has to succeed."""
        answer = await self.call(tool, **arguments)
        assert answer["ok"], (tool, answer)
        return answer

    async def refused(self, code, tool, **arguments):
        """A call that has to be refused with this code."""
        answer = await self.call(tool, **arguments)
        assert not answer["ok"] and answer["error"]["code"] == code, (tool, answer)
        assert answer["error"]["message"], answer


async def until_connected(agent, peer_id):
    async with asyncio.timeout(DEADLINE_S):
        while True:
            peers = (await agent.ask("list_peers"))["peers"]
            if any(peer["peer_id"] == peer_id and peer["connected"] for peer in peers):
                return


async def hands_work_over(agent, there):
    """To the other machine by its id, and to whoever has a worker."""
    submitted = await agent.ask(
        "p2p_taskqueue_submit", task_type="wordcount", payload="one two three", remote_peer_id=there.peer_id
    )
    assert submitted["peer_id"] == there.peer_id and not submitted["duplicate"], submitted
    # Whose task it is need not be said again.
    waited = await agent.ask("p2p_taskqueue_wait_task", task_id=submitted["task_id"], timeout_s=DEADLINE_S)
    assert waited["done"] and waited["task"]["status"] == "completed" and waited["task"]["result"] == 3, waited

    ran = await agent.ask("run_task", task_type="wordcount", payload="one two", timeout_s=DEADLINE_S)
    assert ran["done"] and ran["task"]["result"] == 2, ran
    got = await agent.ask("p2p_taskqueue_get_task", task_id=ran["task"]["task_id"])
    assert got["task"]["result"] == 2 and got["task"]["owner"] != there.peer_id, got

    keyed = {"task_type": "wordcount", "payload": "one", "idempotency_key": f"of {agent.client.protocol_version}"}
    first = await agent.ask("p2p_taskqueue_submit", **keyed)
    again = await agent.ask("p2p_taskqueue_submit", **keyed)
    assert again["task_id"] == first["task_id"] and again["duplicate"], (first, again)


async def works_itself(agent):
    """Claims, renews and completes; what comes too late is refused."""
    submitted = await agent.ask("p2p_taskqueue_submit", task_type="summarise", payload={"text": "long", "words": [1.5]})
    claimed = await agent.ask(
        "p2p_taskqueue_claim_next", worker_id="agent", supported_task_types=["summarise"], wait_s=DEADLINE_S
    )
    task = claimed["task"]
    assert task["task_id"] == submitted["task_id"], claimed
    assert task["payload"] == {"text": "long", "words": [1.5]}, claimed
    held = {"task_id": task["task_id"], "fence": task["fence"]}
    renewed = await agent.ask("p2p_taskqueue_renew_task", **held, progress=0.5, status_message="half")
    assert renewed["lease_until"] >= task["lease_until"] and not renewed["cancel_requested"], renewed
    done = await agent.ask("p2p_taskqueue_complete_task", **held, result={"summary": "short"})
    assert done["status"] == "completed", done
    got = await agent.ask("p2p_taskqueue_get_task", task_id=task["task_id"])
    assert got["task"]["result"] == {"summary": "short"}, got
    await agent.refused("already_finished", "p2p_taskqueue_complete_task", **held, result="another")
    nothing = await agent.ask("p2p_taskqueue_claim_next", worker_id="agent", supported_task_types=["summarise"])
    assert nothing["task"] is None, nothing


async def makes_mistakes(agent):
    await agent.refused("not_found", "p2p_taskqueue_get_task", task_id="0" * 32)
    await agent.refused("invalid_argument", "p2p_taskqueue_submit", task_type=5, payload=1)
    await agent.refused("invalid_argument", "p2p_taskqueue_submit", task_type="t", payload=1, prioriti=3)
    nowhere = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
    await agent.refused("unreachable", "p2p_taskqueue_status", remote_multiaddr=nowhere)


async def story(mode, revision, here, there):
    async with Client(here.url, mode=mode, read_timeout_seconds=DEADLINE_S) as client:
        assert client.protocol_version == revision, client.protocol_version
        agent = Agent(client)
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"run_task", "p2p_taskqueue_submit", "list_peers"} <= tools, tools
        status = await agent.ask("p2p_taskqueue_status")
        assert status["peer_id"] == here.peer_id, status
        await until_connected(agent, there.peer_id)
        await hands_work_over(agent, there)
        await works_itself(agent)
        await makes_mistakes(agent)
        # Many at once, over however many connections the client likes.
        runs = [agent.ask("run_task", task_type="wordcount", payload="a b", timeout_s=DEADLINE_S) for _ in range(10)]
        assert all(ran["task"]["result"] == 2 for ran in await asyncio.gather(*runs))


def main(program):
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(2)]
        here = stack.enter_context(Node(program, folders[0]))
        there = stack.enter_context(Node(program, folders[1], "--worker", "wordcount=wc -w"))
        joined = there.run("join", here.run("invite")["ticket"])
        assert joined["connected"], joined
        for mode, revision in MODES.items():
            asyncio.run(asyncio.wait_for(story(mode, revision, here, there), 3 * DEADLINE_S))
            print(f"{mode}: the story was told in {revision}")
    print(f"{len(MODES)} passed, 0 failed")


if __name__ == "__main__":
    main(sys.argv[1])
