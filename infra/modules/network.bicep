metadata name = 'Network'
metadata description = 'A new virtual network for the app: a subnet for its outbound traffic, a subnet for private endpoints, and a NAT gateway to reach Microsoft Graph and its billing storage.'

// Parameters

@description('Required. Name of the virtual network.')
@minLength(2)
@maxLength(64)
param name string

@description('Required. Name of the NAT gateway.')
@maxLength(80)
param natGatewayName string

@description('Required. Name of the public IP address for the gateway.')
@maxLength(80)
param publicIpAddressName string

@description('Required. Address space of the network, a /24 or larger.')
param addressPrefix string

@description('Required. Region for the network.')
param location string

@description('Required. Tags for the network.')
param tags object

// Variables

var appSubnet = 'app'
var endpointSubnet = 'endpoints'

// Resources

resource publicIpAddress 'Microsoft.Network/publicIPAddresses@2024-05-01' = {
  name: publicIpAddressName
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIPAllocationMethod: 'Static' }
}

resource natGateway 'Microsoft.Network/natGateways@2024-05-01' = {
  name: natGatewayName
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: {
    publicIpAddresses: [{ id: publicIpAddress.id }]
  }
}

resource network 'Microsoft.Network/virtualNetworks@2024-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [addressPrefix] }
    subnets: [
      {
        name: appSubnet
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 26, 0)
          defaultOutboundAccess: false
          natGateway: { id: natGateway.id }
          delegations: [
            {
              name: 'flex-consumption'
              properties: { serviceName: 'Microsoft.App/environments' }
            }
          ]
        }
      }
      {
        name: endpointSubnet
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 26, 1)
          defaultOutboundAccess: false
          privateEndpointNetworkPolicies: 'Enabled'
        }
      }
    ]
  }
}

// Outputs

@description('Resource ID of the network, for links of private DNS zones.')
output networkId string = network.id

@description('Resource ID of the subnet for outbound traffic from the app.')
output appSubnetId string = '${network.id}/subnets/${appSubnet}'

@description('Resource ID of the subnet for the private endpoints.')
output endpointSubnetId string = '${network.id}/subnets/${endpointSubnet}'
