// Three stacks that refer to each other, as "Stacks: Cross-Stack References" in CDKTF's documentation shows it.
import { Construct } from "constructs";
import { App, DataResource, TerraformOutput, TerraformStack } from "cdktf";

interface NetworkConfig {
  cidr: string;
}

class Network extends TerraformStack {
  public readonly vpc: DataResource;

  constructor(scope: Construct, id: string, config: NetworkConfig) {
    super(scope, id);
    this.vpc = new DataResource(this, "vpc", { input: { cidr: config.cidr } });
  }
}

interface WebServersConfig {
  vpc: DataResource;
}

class WebServers extends TerraformStack {
  public readonly server: DataResource;

  constructor(scope: Construct, id: string, config: WebServersConfig) {
    super(scope, id);
    new DataResource(this, "firewall", { input: { vpc: config.vpc.id } });
    this.server = new DataResource(this, "server", { input: { subnet: config.vpc.output.lookup("cidr") } });
  }
}

interface MonitoringConfig {
  server: DataResource;
}

class Monitoring extends TerraformStack {
  constructor(scope: Construct, id: string, config: MonitoringConfig) {
    super(scope, id);
    const domain = this.node.getContext("domain");
    const probe = new DataResource(this, "probe", { input: { target: config.server.output.lookup("subnet") } });
    new TerraformOutput(this, "dashboard", { value: `https://${domain}/${probe.output.lookup("target")}` });
  }
}

const app = new App();
const network = new Network(app, "network", { cidr: "10.0.0.0" });
const web = new WebServers(app, "web-servers", { vpc: network.vpc });
new Monitoring(app, "monitoring", { server: web.server });
app.synth();
