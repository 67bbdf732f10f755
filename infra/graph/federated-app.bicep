metadata name = 'Federated app'
metadata description = 'A multitenant app registration in the tenant of the subscription, for setups in which the subscription is not in the partner tenant. It trusts the identity instead of a secret, and an administrator adds it to the partner tenant.'

extension microsoftGraphV1

// Parameters

@description('Required. Object ID of the managed identity, in the same tenant as this app registration.')
@minLength(36)
@maxLength(36)
param identityPrincipalId string

@description('Optional. Display name for the administrators of the partner tenant. Default: Partner Billing Export.')
@minLength(1)
@maxLength(120)
param displayName string = 'Partner Billing Export'

@description('Optional. Unique name that identifies the app in later deployments. Default: partner-billing-export.')
@minLength(1)
@maxLength(120)
param uniqueName string = 'partner-billing-export'

// Resources

resource app 'Microsoft.Graph/applications@v1.0' = {
  displayName: displayName
  uniqueName: uniqueName
  signInAudience: 'AzureADMultipleOrgs'
}

resource trust 'Microsoft.Graph/applications/federatedIdentityCredentials@v1.0' = {
  name: '${app.uniqueName}/managed-identity'
  issuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
  subject: identityPrincipalId
  audiences: ['api://AzureADTokenExchange']
}

resource principal 'Microsoft.Graph/servicePrincipals@v1.0' = {
  appId: app.appId
}

// Outputs

@description('Client ID of the app, which must be added to the partner tenant. Use it as the value of PARTNER_APP_CLIENT_ID.')
output clientId string = app.appId
