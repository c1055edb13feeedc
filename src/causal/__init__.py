"""Read your own writes on an eventually consistent system: the public names."""

from causal.async_store import AsyncCausalStore, AsyncSession
from causal.clock import HybridLogicalClock
from causal.context import current_session, propagate
from causal.controls import Controls, Lag
from causal.core.frontier import Frontier, LeaderMark, Loss, Position
from causal.core.hlc import Timestamp
from causal.core.keyring import Key
from causal.core.policy import Guarantee, Limits, ReadPolicy
from causal.core.receipt import Receipt
from causal.core.token import Token
from causal.core.watermark import Judgement, Verdict, Watermark
from causal.errors import (
    BadSignature,
    CausalError,
    ClockDrift,
    ClockError,
    CommitUnknown,
    ConfigError,
    ExpiredToken,
    GateError,
    GateTimeout,
    MalformedToken,
    NoEndpoint,
    Overloaded,
    StoreError,
    TokenError,
    UnknownKey,
    Unreachable,
    WriteLost,
)
from causal.keys import KeyFile, Keyring
from causal.recorder import Recorder
from causal.session import Written
from causal.store import CausalStore, Session

__version__ = "0.1.0"

__all__ = [
    "AsyncCausalStore",
    "AsyncSession",
    "BadSignature",
    "CausalError",
    "CausalStore",
    "ClockDrift",
    "ClockError",
    "CommitUnknown",
    "ConfigError",
    "Controls",
    "ExpiredToken",
    "Frontier",
    "GateError",
    "GateTimeout",
    "Guarantee",
    "HybridLogicalClock",
    "Judgement",
    "Key",
    "KeyFile",
    "Keyring",
    "Lag",
    "LeaderMark",
    "Limits",
    "Loss",
    "MalformedToken",
    "NoEndpoint",
    "Overloaded",
    "Position",
    "ReadPolicy",
    "Receipt",
    "Recorder",
    "Session",
    "StoreError",
    "Timestamp",
    "Token",
    "TokenError",
    "UnknownKey",
    "Unreachable",
    "Verdict",
    "Watermark",
    "WriteLost",
    "Written",
    "current_session",
    "propagate",
]
