"""What every stream over datagrams needs: round-trip time, loss detection, congestion control, pacing, ECN.

```
                 budget(now)            on_acked(ranges, now)          deadline, on_timeout(now)
                      |                          |                            |
delivery  ->      Recovery  ----------->  PacketSpace (what is out; who is lost)
                      |                          |
                      +-- RttEstimator <---------+  samples
                      +-- CongestionController      window and pacing rate: NewReno, Cubic, Chicago
                      +-- Pacer                     a token bucket at that rate
```

A delivery makes one `Recovery` with one controller and asks nobody else. Times are monotonic seconds that come with
each call; sizes are octets; a packet number is never used for two transmissions.

Specifications: RFC 9002, RFC 6298, RFC 5681 §4.1, RFC 9406, RFC 9438 (CUBIC), RFC 9000 §13.4 and A.4 (ECN);
Chicago after the reference implementation of CurveCP.
"""

from __future__ import annotations

from .chicago import Chicago
from .congestion import CongestionController
from .cubic import Cubic
from .ecn import EcnState, EcnValidation
from .loss import PacketSpace
from .new_reno import NewReno
from .pacing import Pacer
from .rtt import RetransmissionTimeout, RttEstimator
from .sender import Expired, Recovery

__all__ = [
    "Chicago",
    "CongestionController",
    "Cubic",
    "EcnState",
    "EcnValidation",
    "Expired",
    "NewReno",
    "Pacer",
    "PacketSpace",
    "Recovery",
    "RetransmissionTimeout",
    "RttEstimator",
]
