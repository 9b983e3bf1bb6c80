"""The model server of the providers' tests, and the page's parts of the interface's."""

from tests.llms.conftest import server as server
from tests.ui.conftest import backend as backend
from tests.ui.conftest import config as config
from tests.ui.conftest import llm as llm
from tests.ui.conftest import prepared as prepared
from tests.ui.conftest import samples as samples
from tests.ui.conftest import unstarted as unstarted
