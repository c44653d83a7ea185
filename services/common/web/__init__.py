"""HTTP for every service: the app factory, the one error shape, and the server around it."""

from services.common.web.app import create_app
from services.common.web.client_address import client_address
from services.common.web.lifecycle import Lifecycle
from services.common.web.limits import RequestLimits
from services.common.web.middleware import set_position
from services.common.web.problems import Problem, problem_response, problems
from services.common.web.server import serve

__all__ = [
    "Lifecycle",
    "Problem",
    "RequestLimits",
    "client_address",
    "create_app",
    "problem_response",
    "problems",
    "serve",
    "set_position",
]
