"""Makes neutron's tables in SQLite, where its migrations can't run: they alter constraints."""

import sqlalchemy
from neutron.db.migration.models import head

head.get_metadata().create_all(sqlalchemy.create_engine("sqlite:////var/lib/neutron/neutron.sqlite"))
