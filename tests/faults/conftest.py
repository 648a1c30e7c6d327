from tests.integration.router.conftest import rig, rigs

__all__ = ["rig", "rigs"]
