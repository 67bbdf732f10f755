metadata name = 'Graph permission'
metadata description = 'Grants a service principal read access to the billing data of the partner. An administrator of the partner tenant deploys it once; the deployment of the app does not need this permission.'

extension microsoftGraphV1

// Parameters

@description('Required. Object ID, in the partner tenant, of the service principal that requests exports: the managed identity, or the federated app.')
@minLength(36)
@maxLength(36)
param principalId string

// Variables

var microsoftGraph = '00000003-0000-0000-c000-000000000000'
var permission = 'PartnerBilling.Read.All'

// Resources

resource graph 'Microsoft.Graph/servicePrincipals@v1.0' existing = {
  appId: microsoftGraph
}

resource grant 'Microsoft.Graph/appRoleAssignedTo@v1.0' = {
  appRoleId: filter(graph.appRoles, role => role.value == permission)[0].id
  principalId: principalId
  resourceId: graph.id
}

// Outputs

@description('ID of the grant. Use it to remove the grant.')
output grantId string = grant.id
