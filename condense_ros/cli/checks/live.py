"""The running ROS graph: quality of service, clocks, names, types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from condense_ros.cli.checks.finding import Finding

if TYPE_CHECKING:
    from condense_ros.nodes.graph import Graph

#: topics on which several publishers are usual
SHARED_TOPICS = frozenset(
    {"/tf", "/tf_static", "/rosout", "/diagnostics", "/parameter_events", "/diagnostics_agg"}
)


def live_graph(seconds: float) -> list[Finding]:
    """Observes the graph for `seconds` and judges it."""
    from condense_ros.transport import use_profile

    use_profile()
    try:
        from condense_ros.nodes.graph import observe
    except ImportError as error:
        return [Finding("ROS graph", "error", f"rclpy does not import: {error}", "run `make env`")]
    return judge(observe(seconds))


def judge(graph: Graph) -> list[Finding]:
    """Findings about a graph."""
    if not graph.nodes:
        return [
            Finding(
                "ROS graph",
                "warning",
                "no other node is seen",
                "start one, or check ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE on both sides",
            )
        ]
    found = [Finding("ROS graph", "ok", f"{len(graph.nodes)} nodes, {len(graph.types)} topics")]
    for clash in graph.clashes:
        found.append(
            Finding(
                f"node {clash}",
                "error",
                "the name is in use more than once",
                "end one of them, or start it with `--ros-args -r __node:=NAME`",
            )
        )
    for item in graph.mismatches:
        found.append(
            Finding(
                f"QoS of {item.topic}",
                "error",
                f"{item.publisher} -> {item.subscription}: {item.reason}",
                "give both sides the same reliability and durability",
            )
        )
    for topic, kinds in sorted(graph.types.items()):
        if len(kinds) > 1:
            found.append(
                Finding(
                    f"type of {topic}",
                    "error",
                    f"different types on one topic: {', '.join(kinds)}",
                    "remap one of them to another topic",
                )
            )
        publishers = graph.publishers.get(topic, ())
        if len(publishers) > 1 and topic not in SHARED_TOPICS and topic != "/clock":
            found.append(
                Finding(
                    f"publishers of {topic}",
                    "note",
                    f"{len(publishers)}: {', '.join(publishers)}",
                    "make sure that this is meant",
                )
            )
    return found + _clock_findings(graph)


def _clock_findings(graph: Graph) -> list[Finding]:
    simulated = sorted(name for name, value in graph.sim_time.items() if value)
    wall = sorted(name for name, value in graph.sim_time.items() if not value)
    found = []
    if graph.clock_publishers > 1:
        found.append(
            Finding(
                "/clock",
                "error",
                f"{graph.clock_publishers} publishers: time jumps to and fro",
                "let one player or simulator publish /clock",
            )
        )
    if simulated and not graph.clock_publishers:
        found.append(
            Finding(
                "use_sim_time",
                "error",
                f"set in {', '.join(simulated)}, but nobody publishes /clock: their time stands",
                "start a player that publishes /clock, or set use_sim_time:=false",
            )
        )
    consumers = [name for name in wall if name not in graph.publishers.get("/clock", ())]
    if graph.clock_publishers and consumers:
        found.append(
            Finding(
                "use_sim_time",
                "warning",
                f"/clock is published, but these nodes use wall time: {', '.join(consumers)}",
                "start them with use_sim_time:=true",
            )
        )
    return found
