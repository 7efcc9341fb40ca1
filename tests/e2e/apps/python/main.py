#!/usr/bin/env python
"""Three stacks that refer to each other, as "Stacks: Cross-Stack References" in CDKTF's documentation shows it."""

from cdktf import App, DataResource, TerraformOutput, TerraformStack, Token
from constructs import Construct


class Network(TerraformStack):
    def __init__(self, scope: Construct, id: str, *, cidr: str):
        super().__init__(scope, id)
        self.vpc = DataResource(self, "vpc", input={"cidr": cidr})


class WebServers(TerraformStack):
    def __init__(self, scope: Construct, id: str, *, vpc: DataResource):
        super().__init__(scope, id)
        DataResource(self, "firewall", input={"vpc": vpc.id})
        self.server = DataResource(self, "server", input={"subnet": vpc.output.lookup("cidr")})


class Monitoring(TerraformStack):
    def __init__(self, scope: Construct, id: str, *, server: DataResource):
        super().__init__(scope, id)
        domain = self.node.get_context("domain")
        probe = DataResource(self, "probe", input={"target": server.output.lookup("subnet")})
        target = Token.as_string(probe.output.lookup("target"))
        TerraformOutput(self, "dashboard", value=f"https://{domain}/{target}")


app = App()
network = Network(app, "network", cidr="10.0.0.0")
web = WebServers(app, "web-servers", vpc=network.vpc)
Monitoring(app, "monitoring", server=web.server)
app.synth()
