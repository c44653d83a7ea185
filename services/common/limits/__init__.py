"""Limits on how often somebody may ask: counted in each process, shared among all by leases from Redis (ADR 12)."""

from services.common.limits.leases import Leases
from services.common.limits.limiter import Admission, Limit, Limiter
from services.common.limits.metrics import LimitMetrics

__all__ = ["Admission", "Leases", "Limit", "LimitMetrics", "Limiter"]
