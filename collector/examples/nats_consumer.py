"""Prints each flow that nlringd publishes. Needs nats-py and pyarrow."""
import asyncio, sys, nats, pyarrow as pa

async def main():
    stream = (await nats.connect(sys.argv[1])).jetstream()
    subscription = await stream.pull_subscribe("nlring.*.flows", durable="example")
    while messages := await subscription.fetch(100, timeout=5):
        for message in messages:
            flows = pa.ipc.open_stream(pa.input_stream(pa.py_buffer(message.data), compression="zstd")).read_all()
            for flow in flows.select(["orig_src", "orig_sport", "nat_src"]).to_pylist():
                print(message.headers["Nlring-Node"], *flow.values())
            await message.ack()

asyncio.run(main())
