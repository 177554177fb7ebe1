"""The same shop with its setting up as a run: what fails takes back what was done, also when the process is gone."""

import sys

import hosting

from sagadsl import saga


def main(shop, plan):
    with saga("set_up", key=shop) as run:
        database = run.step(hosting.create_database, compensate=hosting.drop_database)(shop)
        run.step(hosting.create_user, compensate=hosting.delete_user)(database, "owner")
        site = run.step(hosting.publish)(shop, database, plan)
        run.add_compensation(hosting.unpublish, site)
        run.step(hosting.announce)(site)
    return site


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
