"""The recorded sample's story: a bug in a small shop, found by its test, fixed, guarded and reviewed.

The rule this module keeps: it reads like a session that a newcomer has had. It shows thinking, text, a plan that moves,
calls in parallel, a command that fails, edits, a sub-agent, a command that takes its time, and a summary; its commands
need nothing but a Python. All paths are under the workspace.
"""

from pathlib import Path
from textwrap import dedent

from tests.agents.scenarios import Scenario, Text, Thinking, Tool, agent, bash, create_tasks, turn, update_task

__all__ = ["tour"]

_README = """\
# shop

A small shopping cart. Prices are in cents.

    python3 -m unittest        # the tests
    python3 check_orders.py    # replays yesterday's orders
"""

_CART = '''\
"""A shopping cart; all amounts are in cents."""

from shop.discount import percent_off


class Cart:
    def __init__(self):
        self.lines = []
        self.discount = 0

    def add(self, name, price, count=1):
        self.lines.append((name, price, count))

    def subtotal(self):
        return sum(price * count for _, price, count in self.lines)

    def total(self):
        return percent_off(self.subtotal(), self.discount)
'''

_DISCOUNT = '''\
"""Discounts, in whole percent."""


def percent_off(amount, percent):
    return amount - amount // 100 * percent
'''

_FIXED = "    return amount - (amount * percent + 50) // 100"

_TESTS = """\
import unittest

from shop.cart import Cart


class CartTest(unittest.TestCase):
    def setUp(self):
        self.cart = Cart()
        self.cart.add("tea", 349, 2)
        self.cart.add("cup", 1250)

    def test_subtotal(self):
        self.assertEqual(self.cart.subtotal(), 1948)

    def test_no_discount(self):
        self.assertEqual(self.cart.total(), 1948)

    def test_discount_is_rounded_to_the_cent(self):
        self.cart.discount = 15
        self.assertEqual(self.cart.total(), 1656)
"""

_GUARD = """\
import unittest

from shop.discount import percent_off


class PercentOffTest(unittest.TestCase):
    def test_small_amounts_get_their_discount(self):
        self.assertEqual(percent_off(99, 50), 49)

    def test_half_a_cent_is_the_customers(self):
        self.assertEqual(percent_off(150, 15), 127)

    def test_everything_off(self):
        self.assertEqual(percent_off(1948, 100), 0)


if __name__ == "__main__":
    unittest.main()
"""

_CHECK = """\
import time

from shop.discount import percent_off

for number in range(1, 31):
    amount = number * 137
    print(f"order {4100 + number}: {amount:5d} -> {percent_off(amount, 15):5d}", flush=True)
    time.sleep(0.12)
print("30 orders, all discounts within half a cent")
"""

_SUMMARY = """\
The discount is right to the cent now, and all 6 tests pass.

**Cause.** `percent_off` divided before it multiplied (`amount // 100 * percent`), so up to 99 cents of every \
subtotal got no discount at all: a cart of 19.48 with 15 % off came to 16.63 instead of 16.56.

**Change.**
- `shop/discount.py`: multiply first, then round to the nearest cent; half a cent goes to the customer.
- `tests/test_discount.py`: three new tests for small amounts, half cents and 100 % off.

**Checked.** Yesterday's 30 orders replayed without a deviation. A second look at the callers found only `Cart.total`. \
There is no change log to update."""


def tour(workspace: Path) -> Scenario:
    """The session in *workspace*; about half a minute at its own pace."""

    def at(name: str) -> dict[str, str]:
        return {"file_path": str(workspace / name)}

    return Scenario(
        prompt="A customer with 15 % off paid 16.63 for a cart of 19.48. Find out why and fix it.",
        files={
            "README.md": _README,
            "shop/__init__.py": "",
            "shop/cart.py": _CART,
            "shop/discount.py": _DISCOUNT,
            "tests/__init__.py": "",
            "tests/test_cart.py": _TESTS,
            "check_orders.py": _CHECK,
        },
        main=(
            turn(
                Thinking(
                    "19.48 with 15 % off should be 16.558, so 16.56. The customer paid 16.63, seven cents more. "
                    "That looks like a rounding that happens too early. I should see how the project is laid out first."
                ),
                Text("Seven cents too much smells like rounding. I'll get an overview first."),
                Tool("Read", at("README.md")),
            ),
            turn(
                Text("Here is my plan."),
                *create_tasks("Reproduce the wrong total", "Fix the discount", "Add tests for it", "Replay the orders"),
                update_task(1, "in_progress"),
            ),
            turn(
                Text("I'll read the code and run the tests at the same time."),
                Tool("Read", at("shop/cart.py")),
                Tool("Read", at("shop/discount.py")),
                bash("python3 -m unittest", "Run the tests", ok=False),
            ),
            turn(
                Thinking(
                    "There it is: amount // 100 * percent. Integer division first throws away up to 99 cents of the "
                    "amount before the percentage is taken. 1948 // 100 is 19, times 15 is 285, 1948 - 285 is 1663. "
                    "Multiplying first and rounding half up gives 292, so 1656, which is what the test expects."
                ),
                Text("Reproduced: `percent_off` divides before it multiplies, so the 48 cents never see the discount."),
                update_task(1, "completed"),
                update_task(2, "in_progress"),
                Tool(
                    "Edit",
                    at("shop/discount.py")
                    | {"old_string": "    return amount - amount // 100 * percent", "new_string": _FIXED},
                ),
            ),
            turn(
                bash("python3 -m unittest", "Run the tests again"),
                Tool("Grep", {"pattern": "percent_off", "path": str(workspace), "output_mode": "content"}),
            ),
            turn(
                Text("Fixed. Now tests that would have caught it, while a helper looks for other places like it."),
                update_task(2, "completed"),
                update_task(3, "in_progress"),
                Tool("Write", at("tests/test_discount.py") | {"content": _GUARD}),
                agent(
                    "Review the callers",
                    "Look through the project for other places that divide money before they multiply it.",
                    background=False,
                ),
            ),
            turn(
                bash("python3 -m unittest -v", "Run all tests, one by one"),
                bash("cat CHANGELOG.md", "Look for a change log", ok=False),
            ),
            turn(
                Text("Six of six. There is no change log to keep. Last, yesterday's orders."),
                update_task(3, "completed"),
                update_task(4, "in_progress"),
                bash("python3 check_orders.py", "Replay yesterday's orders"),
            ),
            turn(update_task(4, "completed")),
            turn(Text(dedent(_SUMMARY))),
        ),
        helper=(
            turn(
                Thinking("Division of integers shows as two slashes. A search over all Python files will do."),
                Text("Searching every Python file for integer division."),
                Tool("Grep", {"pattern": "//", "glob": "*.py", "output_mode": "content"}),
            ),
            turn(
                Text("One more reading of the only caller, to be sure of its units."),
                Tool("Read", at("shop/cart.py")),
                bash("ls -R shop tests", "List the files"),
            ),
            turn(
                Text(
                    "`shop/discount.py` is the only place that divides money, and it multiplies first now. "
                    "`Cart.total` is its only caller and passes cents."
                )
            ),
        ),
    )
