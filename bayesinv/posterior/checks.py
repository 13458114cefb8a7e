"""Checks that must hold for a result to be trusted, and the log evidence with its error."""

from __future__ import annotations

from dataclasses import dataclass


class Evidence(float):
    """Log marginal likelihood of the recording (and baseline) in nats, with its numerical `error`."""

    error: float

    def __new__(cls, value: float, error: float = 0.0) -> Evidence:
        self = super().__new__(cls, value)
        self.error = float(error)
        return self

    def __getnewargs__(self) -> tuple[float, float]:  # type: ignore[override]
        return float(self), self.error

    def __repr__(self) -> str:
        return f"{float(self):.3f} ± {self.error:.1g}"


@dataclass(frozen=True)
class Check:
    """A fact about a result that must hold for it to be trusted.

    name, value, limit : what was measured and what it was held against
    passed : whether it holds
    note : what it means, for people
    """

    name: str
    value: float
    limit: str
    passed: bool
    note: str = ""

    def __repr__(self) -> str:
        return f"<Check {self.name}: {'passed' if self.passed else 'FAILED'}, {self.value:.3g} (wanted {self.limit})>"
