"""Set up a shop: a database, a user in it, a site. A failure takes back what was done, while the process lives."""

import sys
from contextlib import ExitStack

import hosting


def main(shop, plan):
    with ExitStack() as stack:
        database = hosting.create_database(shop)
        stack.callback(hosting.drop_database, database)
        user = hosting.create_user(database, "owner")
        stack.callback(hosting.delete_user, database, user)
        site = hosting.publish(shop, database, plan)
        stack.callback(hosting.unpublish, site)
        hosting.announce(site)
        stack.pop_all()
    return site


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
