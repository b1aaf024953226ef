"""Recording and reading of bags: rosbag2 folders in MCAP that survive kills and full disks."""

from condense_ros.bags.concatenation import concatenate
from condense_ros.bags.config import RecordConfig
from condense_ros.bags.counts import RecordCount
from condense_ros.bags.info import BagInfo, TopicInfo, bag_info
from condense_ros.bags.kinds import TopicKind
from condense_ros.bags.messages import BagMessage, BagTopic
from condense_ros.bags.pairs import PAIR_TOPIC, PAIR_TYPE, PairRecord
from condense_ros.bags.reader import BagReader
from condense_ros.bags.recovery import Recovery, recover
from condense_ros.bags.thinning import thin
from condense_ros.bags.writer import BagWriter

__all__ = [
    "PAIR_TOPIC",
    "PAIR_TYPE",
    "BagInfo",
    "BagMessage",
    "BagReader",
    "BagTopic",
    "BagWriter",
    "PairRecord",
    "RecordConfig",
    "RecordCount",
    "Recovery",
    "TopicInfo",
    "TopicKind",
    "bag_info",
    "concatenate",
    "recover",
    "thin",
]
