"""Package the policy node for colcon."""

from setuptools import setup

PACKAGE = "robot_rl_nodes"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=[PACKAGE],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="The robot_rl authors",
    maintainer_email="robot_rl@users.noreply.github.com",
    description="The policy as a lifecycle node: a shell around robot_rl's control loop and station.",
    license="Apache-2.0",
    entry_points={"console_scripts": ["policy_node = robot_rl_nodes.policy_node:main"]},
)
